"""What notebook 02 calls: tunings of the small pretrained model and what they are measured by, against arithmetic and the library."""

import json
import math

import pytest
import torch

from ftlab import plots
from ftlab.course import outcomes
from ftlab.course.outcomes import ASKS, CLAIMS, Outcome, demonstrations, preferences
from ftlab.inside import compare, observe
from ftlab.updates import in_layers as matrices_in_layers
from ftlab.updates import updates


@pytest.fixture(scope="module")
def base():
    return outcomes.untouched()


@pytest.fixture(scope="module")
def few():
    return demonstrations(6)


@pytest.fixture(scope="module")
def lora(few):
    return outcomes.tuned(few, method="lora", rank=2, rate=5e-3, passes=1)


@pytest.fixture(scope="module")
def texts(base):
    return outcomes.general_texts(base.loaded, n=3, tokens=16)


def in_layers(found):
    return [u for u in found if u.layer is not None and len(u.shape) == 2]


def test_one_demonstration_in_four_asks_and_pairs_differ_in_the_reply_alone():
    shown = [json.loads(answer) for _, answer in demonstrations(8)]
    assert [answer["reply"] for answer in shown] == [ASKS, CLAIMS, CLAIMS, CLAIMS] * 2
    pair = preferences(1, skip=5)[0]
    chosen, rejected = json.loads(pair.chosen), json.loads(pair.rejected)
    assert (chosen.pop("reply"), rejected.pop("reply")) == (ASKS, CLAIMS) and chosen == rejected
    assert pair.input == demonstrations(1, skip=5)[0][0]


def test_a_tuning_changes_a_copy_and_is_not_done_twice(base, few, lora):
    assert outcomes.tuned(few, method="lora", rank=2, rate=5e-3, passes=1) is lora
    assert lora.trained == 2 * sum(sum(u.shape) for u in in_layers(updates(base.loaded.model, lora.loaded.model)))
    assert outcomes.strength(outcomes.untouched(), base) == 0


def test_lora_is_held_to_its_rank_and_dora_is_not(base, few, lora):
    dora = outcomes.tuned(few, method="dora", rank=2, rate=5e-3, passes=1)
    last = outcomes.tuned(few, method="lora-last", rank=2, rate=5e-3, passes=1, last_layers=1)
    assert outcomes.scope(base, lora)["rank"] <= 2.001 < outcomes.scope(base, dora)["rank"]
    changed = {u.layer for u in updates(base.loaded.model, last.loaded.model) if u.relative_norm != 0}
    assert changed == {base.loaded.model.config.num_hidden_layers - 1}


def test_strength_is_the_norm_of_all_layers_as_one(base, lora):
    pairs = [(base.loaded.model.get_parameter(u.name), lora.loaded.model.get_parameter(u.name)) for u in in_layers(
        updates(base.loaded.model, lora.loaded.model))]  # fmt: skip
    d, w = (torch.cat([part(a, b).flatten() for a, b in pairs]).double() for part in (lambda a, b: b - a, lambda a, b: a))
    assert outcomes.strength(base, lora) == pytest.approx((d.norm() / w.norm()).item(), rel=1e-6)
    found = matrices_in_layers(outcomes.changes(base, lora))
    assert min(m["relative_norm"] for m in found) < outcomes.strength(base, lora) < max(m["relative_norm"] for m in found)


def test_pretraining_started_from_the_weights_of_its_seed(base):
    start = outcomes.before_pretraining()
    w, trained = (o.loaded.model.get_parameter("model.layers.0.mlp.up_proj.weight").flatten() for o in (start, base))
    assert torch.nn.functional.cosine_similarity(w, trained, dim=0) > 0.1  # other random weights of this size: below 0.02


def test_pairs_move_the_ranking_and_leave_the_start_as_it_was(lora):
    before = {name: p.clone() for name, p in lora.loaded.model.named_parameters()}
    pairs = preferences(8)
    after = outcomes.preferred(lora, pairs, rate=1e-2, passes=3)
    assert all(torch.equal(p, before[name]) for name, p in lora.loaded.model.named_parameters())
    assert outcomes.pair_scores(after, pairs)[0]["k"] > outcomes.pair_scores(lora, pairs)[0]["k"]
    assert not any(p.requires_grad for p in after.loaded.model.parameters())


def test_conduct_counts_form_kind_and_question(monkeypatch, base):
    said = ['{"kind": "drink", "reply": "Shall I order it?"}', '{"kind": "tool", "reply": "Shall I order it?"}', "no JSON", "[]"]
    monkeypatch.setattr(outcomes, "written", lambda outcome, texts: said)
    orders = [
        ("tea", '{"kind": "drink"}'),
        ("rice", '{"kind": "meal"}'),
        ("bun", '{"kind": "baked"}'),
        ("milk", '{"kind": "drink"}'),
    ]
    found = outcomes.conduct(base, orders)
    assert [found[name]["k"] for name in ("in the form", "right kind", "asks first")] == [1, 1, 1] and found["in the form"][
        "n"
    ] == 4


def test_losses_and_choices_are_those_of_transformers(base, few, texts):
    text = texts[0]
    assert len(text.ids) == 16 and text.ids[0] == base.loaded.tokenizer.eos_token_id
    ids = torch.tensor([text.ids])
    with torch.inference_mode():
        out = base.loaded.model(input_ids=ids, labels=ids)
    assert outcomes.text_loss(base, [text]) == pytest.approx(out.loss.item(), rel=1e-4)
    assert outcomes.choices(base, text) == [base.loaded.tokenizer.decode([i]) for i in out.logits[0, :-1].argmax(-1).tolist()]
    assert outcomes.task_loss(base, few) == pytest.approx(
        outcomes.text_loss(base, outcomes.order_texts(base.loaded, few)), rel=1e-4
    )


def test_the_base_knows_the_facts_that_were_stated_most_often(base):
    known = outcomes.facts_kept(base)
    assert known["n"] == 60 and known["share"] > 0.5
    assert outcomes.facts_kept(outcomes.before_pretraining())["k"] == 0


def test_figures_say_what_they_draw(base, lora, few, texts):
    found = outcomes.changes(base, lora)
    drawn = plots.update_map(found, "LoRA")
    sizes = [m["relative_norm"] for m in matrices_in_layers(found)]
    assert len(drawn.axes[0].texts) == len(sizes) == 28 and f"to {100 * max(sizes):.1f} %" in drawn.get_label()
    ways = {"LoRA": outcomes.scope(base, lora), "none": outcomes.scope(base, base)}
    bars = plots.method_bars(ways | {"none": ways["none"] | {"trained": 1}})
    assert [bar.get_width() for bar in bars.axes[3].patches] == [ways["LoRA"]["rank"], 0] and "LoRA:" in bars.get_label()
    kinds = {"task": outcomes.order_texts(base.loaded, few), "general": texts}
    reach = plots.reach_figure({"LoRA": compare(base.loaded, lora.loaded, kinds, rounds=40)})
    assert [len(line.get_xdata()) for line in reach.axes[1].lines] == [5] and "choices changed on general text" in reach.get_label()


def test_directions_are_drawn_as_shares_of_the_strongest():
    figure = plots.singular_lines({"full": [4.0, 2.0, 1.0], "LoRA": [3.0, 0.0]}, "Directions")
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[100, 50, 25], [100]]
    assert "full: 3 directions" in figure.get_label() and "LoRA: 1 directions" in figure.get_label()


def test_gain_and_price_stand_side_by_side():
    points = [{"way": "full", "rate": 1e-3, "strength": 0.05, "task": 0.1, "general": 4.0}]
    figure = plots.strength_price(points, {"task": 4.0, "general": 3.5}, "Trainings")
    assert [axes.lines[0].get_ydata()[0] for axes in figure.axes] == [0.1, 4.0] and figure.axes[0].lines[0].get_xdata()[0] == 5
    assert "full at 0.001: size 5.0 %, task loss 0.100, general loss 4.00" in figure.get_label()


def test_compare_is_blind_to_nothing_and_needs_two_texts(base, texts):
    same = compare(base.loaded, base.loaded, {"general": texts}, rounds=40)
    assert same["overall"]["moved"] == 0 and same["choices"]["general"]["changed"]["share"] == 0
    assert math.isclose(same["similarity"]["general"][-1]["cka"], 1) and observe(base.loaded, texts).states.shape[1] == 45
    assert isinstance(base, Outcome)
