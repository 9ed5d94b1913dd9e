"""The x-ray shows what the trainer computes: its loss follows from the positions shown, whichever trainer it is."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ftlab.artifact import apply_adapter
from ftlab.chatparts import prompt_parts
from ftlab.cli import main
from ftlab.errors import DataError, UsageError
from ftlab.generate import Generation
from ftlab.lora import add_lora
from ftlab.models import LoadedModel, load_model
from ftlab.plots import xray_figure
from ftlab.rows import Row
from ftlab.stock import dpo_trainer, sft_trainer
from ftlab.train import SftConfig, sft_config, train_dpo, train_sft
from ftlab.train.blocks import Blocks, train_tokenizer
from ftlab.train.loop import Run
from ftlab.train.loss import AnswerLoss
from ftlab.train.objectives import OBJECTIVES
from ftlab.train.preference import DpoConfig, Preference, dpo_run
from ftlab.train.pretrain import Pretraining, new_model
from ftlab.train.pretrain_settings import SIZES, PretrainConfig
from ftlab.train.sft import encode_rows
from ftlab.xray import Subject, _places, of_blocks, of_examples, xray, xray_text

trl_notices = pytest.mark.filterwarnings("ignore")  # of trl where a test calls it itself
PAIRS = [Preference("p1", "hello", "hi", "go away, you"), Preference("p2", "bye", "see you soon", "no")]


@pytest.fixture
def subject(tiny, toy_task, tmp_path):
    """Two rows or pairs of different lengths, so that one is padded."""
    rows = sorted(toy_task.rows("validation"), key=lambda row: len(row.text))[:: len(toy_task.rows("validation")) - 1]
    (tmp_path / "scratch").mkdir()
    return Subject(tiny, tmp_path / "scratch", toy_task, rows, PAIRS, max_length=4096)


def one_step_of_our_loop(subject, out):
    loaded = load_model("tiny")
    examples = encode_rows(subject.task, subject.rows, loaded.tokenizer, 4096, subject.text_weight)
    loaded.model = add_lora(loaded.model, rank=2, alpha=4, seed=0)
    lengths, weights = [len(ids) for ids, _, _ in examples], [sum(w) for _, _, w in examples]
    run = Run(loaded.model, SftConfig(), out, items=examples, lengths=lengths, weights=weights, origin={})
    run.loss = AnswerLoss(loaded)
    return run.step([0, 1])


def one_step_of_dpo(subject, out):
    return dpo_run(load_model("tiny"), subject.pairs, DpoConfig(max_length=4096), out).step([0, 1])


def one_step_of_trl_sft(subject, out):
    loaded = load_model("tiny")
    examples = encode_rows(subject.task, subject.rows, loaded.tokenizer, 4096)
    return sft_trainer(loaded, examples, SftConfig(epochs=1, batch_size=2, max_length=4096), out).train().training_loss


def one_step_of_trl_dpo(subject, out):
    loaded = load_model("tiny")
    texts = [
        {
            "prompt": loaded.tokenizer.apply_chat_template(p.messages, tokenize=False, add_generation_prompt=True),
            "chosen": p.chosen,
            "rejected": p.rejected,
        }
        for p in subject.pairs
    ]
    return dpo_trainer(loaded, texts, DpoConfig(batch_size=2, max_length=4096), out).train().training_loss


STEPS = {"sft": one_step_of_our_loop, "dpo": one_step_of_dpo, "trl-sft": one_step_of_trl_sft, "trl-dpo": one_step_of_trl_dpo}


@trl_notices
@pytest.mark.parametrize("trainer", STEPS)
def test_the_positions_shown_add_up_to_the_loss_of_a_training_step(subject, tmp_path, trainer):
    found = xray(trainer, subject)
    trained = STEPS[trainer](subject, tmp_path / "run")
    assert found.shown_loss == pytest.approx(trained, rel=1e-5) and found.own_loss == pytest.approx(trained, rel=1e-5)
    assert found.agrees and "the same" in xray_text(found)


@pytest.mark.parametrize("trainer", ["trl-sft", "trl-dpo"])
def test_our_loops_and_trl_train_on_the_same_tokens_with_the_same_weights(subject, trainer):
    theirs = xray(trainer, subject)
    (subject.scratch / "ours").mkdir()
    ours = xray(trainer.removeprefix("trl-"), replace(subject, loaded=load_model("tiny"), text_weight=1.0))
    assert any(row.padding for row in theirs.rows) and len(ours.rows) == len(theirs.rows)
    for a, b in zip(ours.rows, theirs.rows, strict=True):
        assert [(p.token_id, p.part, p.label) for p in a.positions] == [(p.token_id, p.part, p.label) for p in b.positions]
        for p, q in zip(a.positions, b.positions, strict=True):
            assert p.weight == pytest.approx(q.weight, rel=1e-5) and (p.loss is None) == (q.loss is None)
            assert p.loss is None or p.loss == pytest.approx(q.loss, rel=1e-4)


@trl_notices
def test_the_gradient_reaches_the_states_before_the_positions_shown_and_no_others(subject, tmp_path):
    """Seen from outside of the x-ray: a hook on the decoder's output inside trl's compute_loss."""
    found = xray("trl-sft", subject)
    loaded = load_model("tiny")
    examples = encode_rows(subject.task, subject.rows, loaded.tokenizer, 4096)
    trainer = sft_trainer(loaded, examples, SftConfig(batch_size=2, max_length=4096), tmp_path / "trl")
    states = []
    trainer.model.get_base_model().base_model.register_forward_hook(lambda module, args, out: states.append(out.last_hidden_state))
    batch = next(iter(trainer.get_train_dataloader()))
    (slope,) = torch.autograd.grad(trainer.compute_loss(trainer.model, batch), states[0])
    places = _places(batch, [list(ids) for ids, _, _ in examples])
    for row, place in zip(found.rows, places, strict=True):
        reached = [at + 1 for at, g in enumerate(slope[place].norm(dim=-1).tolist()) if g > 0]
        assert reached == [p.at for p in row.positions if p.weight] == [p.at for p in row.positions if p.label is not None]


def test_weights_are_those_of_the_settings_over_their_sum(subject):
    found = xray("sft", replace(subject, text_weight=0.25))
    examples = encode_rows(subject.task, subject.rows, subject.loaded.tokenizer, 4096, 0.25)
    total = sum(w for _, _, weights in examples for w in weights)
    for row, (ids, start, weights) in zip(found.rows, examples, strict=True):
        assert [p.weight for p in row.positions] == pytest.approx([0.0] * start + [w / total for w in weights], rel=1e-5)
        assert [p.label for p in row.positions[start:]] == list(ids[start:])
    assert len({round(p.weight * total, 4) for row in found.rows for p in row.positions}) == 3  # none, 0.25 and 1


def test_a_tuned_model_pulls_less_at_pairs_that_it_has_won(subject, tmp_path):
    """Each rejected token carries −β·σ(−β·margin) over the number of pairs; the margin is measured from the base model."""
    config = DpoConfig(epochs=4, batch_size=2, learning_rate=1e-2, rank=4, alpha=8, max_length=4096)
    train_dpo(load_model("tiny"), PAIRS, config, tmp_path / "adapter", progress=False)
    found = [xray(name, replace(subject, loaded=load_model("tiny"), adapter=tmp_path / "adapter")) for name in ("dpo", "trl-dpo")]
    for x in found:
        assert x.agrees and len(x.rows) == 4
        for pair, row in zip(x.pairs, x.rows[2:], strict=True):
            expected = -0.1 / (1 + math.exp(0.1 * pair["margin"])) / 2
            assert pair["margin"] > 1 and [p.weight for p in row.positions if p.weight] == pytest.approx(
                [expected] * sum(p.label is not None for p in row.positions), rel=1e-4
            )
    assert found[0].own_loss == pytest.approx(found[1].own_loss, rel=1e-4)


def test_losses_are_those_of_the_adapter(subject, toy_task, tmp_path):
    config = sft_config("smoke", train_rows=6, general_rows=0, rank=2)
    train_sft(toy_task, load_model("tiny"), config, tmp_path / "adapter", progress=False)
    tuned, base = (xray("sft", replace(subject, loaded=load_model("tiny"), adapter=a)) for a in (tmp_path / "adapter", None))
    loaded = load_model("tiny")
    examples = encode_rows(toy_task, subject.rows, loaded.tokenizer, 4096, subject.text_weight)
    apply_adapter(loaded, tmp_path / "adapter")
    total, weight = AnswerLoss(loaded)(examples)
    assert tuned.own_loss == pytest.approx(total.item() / weight, rel=1e-5) and tuned.own_loss < base.own_loss - 0.1


def test_general_rows_are_answered_before_the_adapter_and_shown_with_their_answers(subject, monkeypatch):
    done = []

    def answer(loaded, chats, **settings):
        done.append("answered")
        return [Generation("fine", 1, 1, True) for _ in chats]

    monkeypatch.setattr("ftlab.xray.generate", answer)
    monkeypatch.setattr("ftlab.xray.apply_adapter", lambda loaded, folder: done.append(folder))
    found = xray("general", replace(subject, rows=[Row("g", "how are you?")], adapter="a"))
    assert done == ["answered", "a"] and found.model == "tiny with a"
    assert "".join(p.token for p in found.rows[0].positions if p.part == "answer") == "fine"
    assert "".join(p.token for p in found.rows[0].positions if p.part == "user") == "how are you?"
    assert found.rows[0].positions[-1].part == "end" and found.agrees


def test_a_row_without_answer_tokens_is_refused_by_name(subject, tiny, monkeypatch):
    prompt = [5, 6, 7]
    for ids in (prompt, [*prompt, tiny.tokenizer.eos_token_id]):
        with pytest.raises(DataError, match="no answer tokens after the template") as error:
            of_examples("sft", tiny, [(ids, 3, [1.0] * (len(ids) - 3)), ([5, 6, 7, 8], 3, [1.0])], ["empty", "full"])
        assert error.value.problems == ["empty"]
    monkeypatch.setattr("ftlab.xray.generate", lambda loaded, chats, **_: [Generation("", 1, 0, True)])
    with pytest.raises(DataError, match="no answer tokens"):
        xray("general", replace(subject, rows=[Row("g", "hello")]))


def test_plain_text_is_shown_whole_as_pretraining_sees_it(tiny):
    """Every token but the first is a label of equal weight."""
    found = of_examples("pretrain", tiny, [([5, 6, 7, 8], 1, [1.0] * 3)], ["text"])
    assert [p.weight for p in found.rows[0].positions] == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    assert {p.part for p in found.rows[0].positions} == {"text"} and found.agrees


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_blocks_are_shown_as_a_step_of_pretraining_has_them(objective, tmp_path):
    """A run of three blocks in one step, and its own first batch beside it."""
    draw = np.random.default_rng(3)
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 9, 280)
    config = PretrainConfig(
        size="0.1M", objective=objective, vocabulary=280, tokens=96, block_tokens=32, batch_blocks=3, fact_share=0.0
    )
    text = draw.integers(7, 200, (3, 32)).astype(np.uint16)
    run = Pretraining(new_model(SIZES["0.1M"], tokenizer), Blocks(tokenizer, text, text, text[:0], (), ""), config, tmp_path)
    model = copy.deepcopy(run.model).eval()
    blocks, seed = run.blocks.at(run.order), [config.seed, 2, 0]
    expected, batch = run.take_step(), run.batch(0)
    found = of_blocks(
        LoadedModel("new", model, tokenizer, ""), blocks, np.random.default_rng(seed), objective, run.ids, ["a", "b", "c"]
    )
    assert found.own_loss == pytest.approx(expected, rel=1e-5) and found.agrees
    marked = [p for row in found.rows for p in row.positions if p.loss is not None]
    assert len(marked) == batch.asked and all(p.weight == pytest.approx(1 / batch.asked, rel=1e-5) for p in marked)
    for row, ids in zip(found.rows, batch.input_ids, strict=True):
        assert [p.token_id for p in row.positions] == ids.tolist()
        for p in row.positions:
            assert p.label is None or (p.label == p.token_id) == (objective != "masked")
    assert (found.rows[0].positions[0].label is None) or objective == "masked"


def test_the_command_shows_the_text_of_rows_as_pretraining_sees_it(toy_folder, capsys):
    options = ["xray", "--task", str(toy_folder), "--model", "tiny", "--max-length", "40", "--trainer"]
    assert main([*options, "next-token", "--row", "r0", "r1"]) == 0
    said = capsys.readouterr().out
    assert "pretraining (next-token)" in said and "40 tokens, 39 with loss" in said and said.rstrip().endswith("the same")
    assert main([*options, "masked"]) == 2
    assert "expected a model with the signs <|mask|>, found none" in capsys.readouterr().err
    assert main(["xray", "--task", str(toy_folder), "--model", "tiny", "--max-length", "5", "--trainer", "next-token"]) == 1
    assert "expected a text of 8 tokens at least, found 5" in capsys.readouterr().err


def test_words_of_a_message_are_told_from_the_template_even_where_they_are_the_same(tiny):
    chat = [{"role": "system", "content": "user"}, {"role": "user", "content": "<|im_start|>assistant"}]
    found = prompt_parts(tiny.tokenizer, chat)
    texts = {part: tiny.tokenizer.decode([t for t, own in found if own == part]) for part in ("template", "system", "user")}
    assert texts["system"] == "user" and texts["user"] == "<|im_start|>assistant"
    assert texts["template"] == "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_trims_or_changes_messages(tiny):
    chat = [{"role": "user", "content": " hi "}]
    plain = tiny.tokenizer.chat_template
    tiny.tokenizer.chat_template = plain.replace("m['content']", "m['content'] | trim")
    assert "".join(tiny.tokenizer.decode([t]) for t, own in prompt_parts(tiny.tokenizer, chat) if own == "user") == "hi"
    tiny.tokenizer.chat_template = plain.replace("m['content']", "m['content'] | upper")
    assert {own for _, own in prompt_parts(tiny.tokenizer, chat)} == {"prompt"}


def test_a_difference_from_the_trainers_loss_is_said(subject):
    found = xray("sft", subject)
    wrong = replace(found, own_loss=1.001 * found.own_loss)
    assert not wrong.agrees and "THESE DIFFER" in xray_text(wrong)


def test_the_text_is_aligned_and_tells_tokens_apart_without_colour(subject):
    lines = xray_text(xray("sft", subject)).splitlines()
    rows = [line for line in lines if line[:4].strip().isdigit()]
    assert len({line.index('"') for line in rows}) == 1 and all(line.isprintable() for line in rows)
    assert any(" -100 " in line for line in rows) and any("#" in line for line in rows)


def test_table_and_figure_hold_every_position(subject):
    found = xray("sft", subject)
    table = found.table()
    assert len(table) == sum(len(row.positions) for row in found.rows) and table[0]["row"] == subject.rows[0].id
    figure = xray_figure(found.as_dict())
    trained = sum(record["loss"] is not None for record in table)
    bars = [p for axes in figure.axes for bars in axes.containers for p in bars]
    assert len(bars) == 2 * trained and sum(p.get_height() < 0 for p in bars) == trained
    assert f"{subject.rows[1].id} row" in figure.get_label()


def test_the_command_writes_what_it_shows(toy_folder, toy_task, tmp_path, capsys):
    row = toy_task.rows("train")[3].id
    options = ["--task", str(toy_folder), "--model", "tiny", "--max-length", "4096"]
    outputs = ["--json", str(tmp_path / "x.json"), "--figure", str(tmp_path / "x.png")]
    assert main(["xray", *options, "--row", row, *outputs]) == 0
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["agrees"] and [r["row"] for r in written["rows"]] == [row]
    assert f"{written['own_loss']:.6f}: the same" in capsys.readouterr().out and (tmp_path / "x.png").stat().st_size > 5000


def test_the_command_takes_pairs_of_the_task_or_of_a_file(toy_folder, tmp_path, capsys):
    options = ["xray", "--task", str(toy_folder), "--model", "tiny", "--max-length", "4096", "--trainer", "dpo"]
    assert main(options) == 2 and "give --pairs FILE" in capsys.readouterr().err
    rows = [
        {"id": "a", "input": "hi", "chosen": "yes", "rejected": "no"},
        {"id": "b", "input": "hi", "chosen": "", "rejected": "no"},
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([*options, "--pairs", str(tmp_path / "p.jsonl"), "--row", "b"]) == 1
    assert "the chosen answer is empty" in capsys.readouterr().err
    (toy_folder / "pairs.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert main(options) == 0 and "a, rejected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--trainer", "ppo"], "expected one of sft, general, dpo, trl-sft, trl-dpo, next-token"),
        (["--row", "r0", "none"], "found none called none"),
        (["--pairs", "x.jsonl"], "--pairs: expected one of the trainers dpo and trl-dpo"),
        (["--adapter", "nowhere"], "expected a folder with adapter_model.safetensors"),
    ],
)
def test_wrong_use_is_one_sentence(toy_folder, capsys, extra, says):
    assert main(["xray", "--task", str(toy_folder), "--model", "tiny", "--max-length", "4096", *extra]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_an_adapter_of_another_kind_is_no_adapter_in_training(subject, tmp_path):
    config = DpoConfig(epochs=1, rank=2, alpha=4, max_length=4096)
    train_dpo(load_model("tiny"), PAIRS, config, tmp_path / "adapter", progress=False)
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="found a fault in adapter_config.json"):
        xray("dpo", replace(subject, adapter=tmp_path / "adapter"))
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    save_file({k: v.contiguous() for k, v in weights.items() if "q_proj" in k}, tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(UsageError, match=r"\(28 matrices\), found 4"):
        xray("dpo", replace(subject, loaded=load_model("tiny"), adapter=tmp_path / "adapter"))
