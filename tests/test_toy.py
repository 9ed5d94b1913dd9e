"""What notebook 07 trains and draws: the toy is the real loop, pieces and pauses change nothing, figures say their numbers."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from ftlab import plots
from ftlab.course.toy import (
    WHOLE,
    encoded,
    exactly_right,
    fingerprint,
    orders,
    rate_range,
    step_gradient,
    stop_after,
    toy_run,
    train_toy,
)
from ftlab.errors import DataError
from ftlab.generate import generate
from ftlab.models import load_model

CURVE = [
    {"epoch": 1, "step": 4, "train_loss": 2.0, "validation_loss": 1.5, "exact": 0.25},
    {"epoch": 2, "step": 8, "train_loss": 1.0, "validation_loss": 1.75, "exact": 0.5},
]


def test_orders_are_different_and_held_out_ones_apart():
    first, later = orders(400), orders(60, skip=400)
    assert len(set(first) | set(later)) == 460 and orders(3) == first[:3]
    kinds = dict(orders(648))
    assert kinds["two tea please"] == '{"kind": "drink"}' and kinds["just nine pie"] == '{"kind": "baked"}'
    with pytest.raises(ValueError, match="at most 648 orders in all, found 640 \\+ 9"):
        orders(9, skip=640)


def test_the_gradient_of_a_step_is_that_of_torch_in_however_many_pieces():
    loaded = load_model("tiny")
    examples = list(encoded(orders(5), loaded.tokenizer))
    found = [step_gradient(loaded, examples, tokens) for tokens in (WHOLE, 130, 1)]
    loaded.model.zero_grad()
    losses = []
    for ids, start, _ in examples:
        logits = loaded.model(torch.tensor([list(ids)])).logits[0, start - 1 : -1]
        losses.append(cross_entropy(logits, torch.tensor(list(ids[start:])), reduction="none"))
    torch.cat(losses).mean().backward()
    reference = torch.cat([p.grad.flatten() for p in loaded.model.parameters()])
    assert all((gradient - reference).norm() < 1e-5 * reference.norm() for gradient in found)


def test_an_answer_is_exactly_right_if_greedy_decoding_writes_it(tmp_path):
    pairs = orders(3)
    loaded, run = toy_run(pairs, tmp_path, passes=40, batch_size=3)
    run.train(dict, progress=False)
    asked = pairs + [(message, '{"kind": "odd"}') for message, _ in pairs]
    written = generate(loaded, [[{"role": "user", "content": message}] for message, _ in asked], max_new_tokens=30)
    told = exactly_right(loaded, encoded(asked, loaded.tokenizer))
    assert told == [a.text == answer and a.ended for a, (_, answer) in zip(written, asked, strict=True)] and any(told)


def test_a_toy_curve_has_a_point_a_pass():
    curve = train_toy(orders(12), orders(10, skip=400), passes=2)
    assert [(point["epoch"], point["step"]) for point in curve] == [(1, 2), (2, 4)]
    assert curve[1]["train_loss"] < curve[0]["train_loss"] and 0 <= curve[1]["exact"] <= 1


def test_a_pause_changes_no_bit_and_other_settings_are_refused(tmp_path):
    pairs, runs = orders(18), {}
    for name in ("straight", "paused"):
        _, runs[name] = toy_run(pairs, tmp_path / name, passes=2)
    runs["straight"].train(dict, progress=False)
    stop_after(runs["paused"], 2)
    with pytest.raises(DataError, match=r"learning_rate \(0.01, now 0.02\)"):
        toy_run(pairs, tmp_path / "paused", passes=2, rate=0.02)[1].load()
    with pytest.raises(DataError, match="made with other rows"):
        toy_run(orders(18, skip=1), tmp_path / "paused", passes=2)[1].load()
    _, resumed = toy_run(pairs, tmp_path / "paused", passes=2)
    resumed.load()
    assert resumed.step_in_epoch == 2 and fingerprint(resumed.model) != fingerprint(runs["straight"].model)
    resumed.train(dict, progress=False)
    assert fingerprint(resumed.model) == fingerprint(runs["straight"].model)


def test_rates_are_tried_with_each_seed():
    tried, before = rate_range(orders(6), orders(4, skip=400), (1e-3, 1e-2), (0, 1))
    assert [(t["learning_rate"], t["seed"]) for t in tried] == [(1e-3, 0), (1e-3, 1), (1e-2, 0), (1e-2, 1)]
    assert 3 < before < 9 and all(t["loss"] < before for t in tried)


def test_rates_are_drawn_as_medians_and_points():
    tried = [
        {"learning_rate": r, "seed": s, "loss": loss} for r, s, loss in ((0.1, 0, 1.0), (0.1, 1, 3.0), (1.0, 0, 4.0), (1.0, 1, 5.0))
    ]
    figure = plots.rate_points(tried, 6.0, "Rates")
    assert list(figure.axes[0].lines[0].get_ydata()) == [2.0, 4.5]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0.1", "1"]
    assert {"1", "2", "5"} <= {label.get_text() for label in figure.axes[0].get_yticklabels()}  # no powers of ten
    assert figure.get_label() == "Rates. Median held-out loss: 2.00 at 0.1, 4.50 at 1; 6.00 before training."


def test_padding_is_counted_to_the_longest_row_of_a_piece():
    figure = plots.padding_bars({"mixed": [[1, 9], [2, 8]], "sorted": [[1, 2], [8, 9]]})
    assert figure.get_label() == "Tokens computed in a pass. mixed: 20 of the rows, 14 padding; sorted: 20 of the rows, 2 padding."


def test_curves_of_runs_mark_the_lowest_held_out_loss():
    figure = plots.run_curves({"few": CURVE}, held_out=20)
    losses, scores = figure.axes
    assert list(losses.lines[1].get_ydata()) == [1.5, 1.75] and list(losses.lines[2].get_xdata()) == [4, 4]
    assert list(scores.lines[0].get_ydata()) == [25, 50] and "held-out loss lowest 1.50 at pass 1 and 1.75" in figure.get_label()


def test_memory_costs_and_seeds_say_their_numbers():
    figure = plots.memory_lines({"full": [(100, 500.0), (200, 700.0)]}, 4000, "Memory")
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.5, 0.7] and "full: 500 MB at 100, 700 MB at 200" in figure.get_label()
    run = {"run": "a", "predicted_s": 10, "measured_s": 12, "predicted_mb": 100, "measured_mb": 90}
    figure = plots.predicted_and_measured([run])
    assert "a: 10 seconds predicted, 12 measured; a: 100 peak memory, MB predicted, 90 measured" in figure.get_label()
    figure = plots.seed_points({"one": [0.5, 0.6]}, 100, "Seeds")
    assert list(figure.axes[0].lines[1].get_xdata()) == [50, 60] and figure.get_label() == "Seeds. one: 50.0 %, 60.0 %."


def test_two_xrays_are_compared_token_by_token():
    def view(losses):
        positions = [{"token": "x", "loss": None}] + [{"token": t, "loss": loss} for t, loss in zip("ab", losses, strict=True)]
        return {"rows": [{"positions": positions}]}

    figure = plots.xray_compared(view([3.0, 1.0]), view([0.5, 0.25]), ("before", "after"))
    assert figure.get_label() == ("Loss of 2 answer tokens: before 4.00 nats in all, after 0.75. The dearest for after is 'a'.")
