"""Adapters swapped on one loaded base: the base is as it was, each adapter answers as it does alone, and the tests are those by hand."""

import json

import pytest
import torch

from ftlab.artifact import CONFIG, WEIGHTS, apply_adapter, save_adapter_weights, swapped_in, write_lineage
from ftlab.cli import main
from ftlab.errors import DataError, UsageError
from ftlab.evaluate import evaluate_tuned
from ftlab.lora import add_lora
from ftlab.models import load_model, weights_sha256
from ftlab.rows import Row
from ftlab.sidebyside import compare, comparison_table, comparison_text, named_adapters


@pytest.fixture
def adapters(tmp_path):
    """Three adapters with random matrices of different size for the tiny model."""
    made = {}
    for seed, name in enumerate(("first", "second", "third"), 1):
        tiny = load_model("tiny")
        model = add_lora(tiny.model, rank=seed, alpha=3, seed=seed, last_layers=seed % 2)
        torch.manual_seed(seed)
        for key, p in model.named_parameters():
            torch.nn.init.normal_(p, std=0.3) if "lora_B" in key else None
        save_adapter_weights(model, tmp_path / name / "adapter")
        write_lineage(tmp_path / name / "adapter", {"base": {"model": "tiny", "sha256": tiny.sha256}})
        made[name] = tmp_path / name / "adapter"
    return made


def test_after_many_swaps_every_bit_of_the_base_is_as_it_was(adapters, tiny):
    before, model, state = weights_sha256(tiny.model), tiny.model, {k: v.clone() for k, v in tiny.model.state_dict().items()}
    for _ in range(5):
        for folder in adapters.values():
            with swapped_in(tiny, folder):
                assert weights_sha256(tiny.model) != before and tiny.adapter_sha256
    assert weights_sha256(tiny.model) == before and tiny.model is model and tiny.adapter_sha256 == ""
    assert all(torch.equal(v, state[k]) for k, v in tiny.model.state_dict().items()) and len(state) == len(tiny.model.state_dict())
    assert not any("lora" in name for name, _ in tiny.model.named_modules())


def test_taking_the_product_off_again_would_not_be_exact(adapters, tiny):
    """Why the originals are kept: peft's own unmerge leaves rounding errors."""
    from peft import PeftModel

    before = weights_sha256(tiny.model)
    adapted = PeftModel.from_pretrained(tiny.model, adapters["second"])
    adapted.merge_adapter()
    adapted.unmerge_adapter()
    assert weights_sha256(adapted.unload()) != before


def test_a_swapped_adapter_is_the_merged_one_bit_by_bit(adapters, tiny):
    for folder in adapters.values():
        alone = load_model("tiny")
        apply_adapter(alone, folder)
        with swapped_in(tiny, folder) as lineage:
            assert weights_sha256(tiny.model) == weights_sha256(alone.model) and lineage["base"]["model"] == "tiny"
            assert tiny.adapter_sha256 == alone.adapter_sha256


def test_an_error_inside_leaves_the_base_as_it_was(adapters, tiny):
    before = weights_sha256(tiny.model)
    with pytest.raises(KeyError), swapped_in(tiny, adapters["first"]):
        raise KeyError
    assert weights_sha256(tiny.model) == before


def test_a_hash_of_weights_sees_one_bit_and_half_floats(tiny):
    before = weights_sha256(tiny.model)
    tiny.model.model.norm.weight.data[3] += 1e-6
    assert weights_sha256(tiny.model) != before
    assert len(weights_sha256(tiny.model.bfloat16())) == 64


def test_each_system_answers_as_it_does_alone(adapters, toy_task, tiny):
    rows = toy_task.rows("validation")[:5]
    found = compare(toy_task, tiny, adapters, rows, max_new_tokens=12, cache=False)
    assert list(found["systems"]) == ["untuned", *adapters] and found["labelled"]
    assert found["weights_sha256"]["before"] == found["weights_sha256"]["after"] == weights_sha256(load_model("tiny").model)
    for name, folder in adapters.items():
        alone = load_model("tiny")
        apply_adapter(alone, folder)
        expected = evaluate_tuned(toy_task, alone, rows, max_new_tokens=12, cache=False)
        assert [a["output"] for a in found["systems"][name]["answers"]] == [r["output"] for r in expected["rows"]]
        assert found["systems"][name]["evaluation"]["scores"] == expected["scores"]
    outputs = {name: tuple(a["output"] for a in s["answers"]) for name, s in found["systems"].items()}
    assert len(set(outputs.values())) == 4  # four systems, four ways to answer
    assert [s["prompt"] for s in found["systems"].values()] == ["long", "short", "short", "short"]


def test_answers_of_one_system_never_come_from_anothers_store(adapters, toy_task, tiny):
    rows = toy_task.rows("validation")[:3]
    fresh = compare(toy_task, tiny, adapters, rows, max_new_tokens=6, prompt="short", cache=False)
    for _ in range(2):
        again = compare(toy_task, tiny, adapters, rows, max_new_tokens=6, prompt="short")
        assert again["systems"] == fresh["systems"]


def canned(monkeypatch, answers):
    """Each system gives the next list of answers, whatever it is asked."""
    from ftlab.generate import Generation

    left = iter(answers)
    monkeypatch.setattr(
        "ftlab.sidebyside.cached_generate", lambda loaded, chats, **k: ([Generation(t, 1, 1, True) for t in next(left)], 0)
    )


def test_scores_and_paired_tests_by_hand(adapters, toy_task, tiny, monkeypatch):
    """Untuned 0 of 6, first 6 of 6, second 5 of 6: 6 gained, p = 2·(1/2)^6; 5 gained, p = 2·(1/2)^5; 1 lost, p = 1."""
    rows = toy_task.rows("validation")[:6]
    right = [toy_task.completion(row) for row in rows]
    canned(monkeypatch, [["no"] * 6, right, [*right[:5], "no"]])
    two = {name: adapters[name] for name in ("first", "second")}
    found = compare(toy_task, tiny, two, rows)
    strict = {(p["before"], p["after"]): p["tests"]["strict"] for p in found["paired"]}
    assert {pair: (t["gained"], t["lost"], t["p"]) for pair, t in strict.items()} == {
        ("untuned", "first"): (6, 0, 2 / 2**6),
        ("untuned", "second"): (5, 0, 2 / 2**5),
        ("first", "second"): (0, 1, 1.0),
    }
    scores = found["systems"]["second"]["evaluation"]["scores"]["strict"]
    assert (scores["k"], scores["n"]) == (5, 6) and found["systems"]["second"]["clean"]["k"] == 5
    table = comparison_table(found)
    assert "untuned → first: strict +100.0 points (6 gained, 0 lost, p = 0.031)" in table and "3 pairs were tested" in table


def test_messages_without_labels_are_checked_and_not_scored(adapters, toy_task, tiny, monkeypatch):
    row = Row("m", "money back for order 7")
    good = '{"intent": "refund", "number": "7", "say": "Yes."}'
    canned(monkeypatch, [["sorry"], [good]])
    found = compare(toy_task, tiny, {"first": adapters["first"]}, [row])
    assert not found["labelled"] and found["paired"] == [] and "evaluation" not in found["systems"]["first"]
    assert [s["clean"]["k"] for s in found["systems"].values()] == [0, 1]
    text = comparison_text(found)
    assert "untuned (long prompt): fails: format" in text and "first (short prompt): passes all checks" in text
    assert "money back for order 7" in text and '"number": "7"' in text and "what is right is not scored" in text


def test_a_figure_shows_every_system_with_its_interval(adapters, toy_task, tiny, monkeypatch):
    from ftlab.plots import compared_bars

    rows = toy_task.rows("validation")[:4]
    right = [toy_task.completion(row) for row in rows]
    canned(monkeypatch, [right, right[:3] + ["x"], ["x"] * 4, right] * 2)
    figure = compared_bars(compare(toy_task, tiny, adapters, rows))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["untuned", *adapters]
    assert "strict: untuned 100.0 %, first 75.0 %, second 0.0 %, third 100.0 %" in figure.get_label()
    assert all(len(axes.containers) == 8 for axes in figure.axes)  # bars and error bars of four systems
    unlabelled = compared_bars(compare(toy_task, tiny, adapters, [Row("m", "order 7")] * 4))
    assert len(unlabelled.axes) == 1 and "passes all checks: untuned" in unlabelled.get_label()


def test_names_are_the_shortest_ends_that_differ(tmp_path):
    paths = [str(tmp_path / end) for end in ("a/run/adapter", "b/run/adapter", "b/other")]
    assert list(named_adapters(paths)) == ["a/run/adapter", "b/run/adapter", "other"]
    assert list(named_adapters([f"sft={paths[0]}", paths[1]])) == ["sft", "b/run/adapter"]
    assert list(named_adapters([paths[0]])) == ["run/adapter"]
    for given, says in (([paths[0], paths[0]], "each folder once"), ([f"x={paths[0]}", f"x={paths[1]}"], "'x' twice")):
        with pytest.raises(UsageError, match=says):
            named_adapters(given)


def test_what_cannot_be_compared_is_refused(adapters, toy_task, tiny, tmp_path):
    rows = toy_task.rows("validation")[:2]
    for arguments, says in (
        (({}, rows, False), "expected --base or at least one --adapter"),
        ((adapters, [], True), "expected at least one message"),
        (({"x": tmp_path}, rows, True), "expected a folder with adapter_model.safetensors"),
    ):
        with pytest.raises(UsageError, match=says):
            compare(toy_task, tiny, *arguments[:2], base=arguments[2])
    write_lineage(adapters["second"], {"base": {"model": "another", "sha256": "f" * 64}})
    with pytest.raises(UsageError, match="was made for another .* the model is tiny"):
        compare(toy_task, tiny, adapters, rows)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"peft_type": "PROMPT_TUNING"}, UsageError, "expected plain LoRA, .* found PROMPT_TUNING"),
        ({"modules_to_save": ["lm_head"]}, UsageError, "found LORA with modules_to_save"),
        (None, DataError, "expected the settings of an adapter"),
    ],
)
def test_an_adapter_that_does_not_come_off_is_refused(adapters, tiny, change, error, says):
    path = adapters["first"] / CONFIG
    path.write_text("no JSON" if change is None else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=says), swapped_in(tiny, adapters["first"]):
        pass


def test_the_command_compares_and_writes(adapters, toy_folder, tmp_path, capsys):
    out, figure = tmp_path / "new" / "c.json", tmp_path / "new" / "c.png"
    options = [part for name, folder in adapters.items() for part in ("--adapter", f"{name}={folder}")]
    command = ["compare", "--task", str(toy_folder), "--base", *options, "--max-new-tokens", "4"]
    assert main([*command, "--rows", "3", "--json", str(out), "--figure", str(figure)]) == 0
    found = json.loads(out.read_text())
    assert list(found["systems"]) == ["untuned", "first", "second", "third"] and len(found["rows"]) == 3
    assert figure.read_bytes().startswith(b"\x89PNG") and "n = 3 messages" in capsys.readouterr().out
    assert main([*command, "order 7 please"]) == 0 and "MESSAGE  order 7 please" in capsys.readouterr().out
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "a", "input": "order 8"}\n{"id": "b", "input": "order 9"}\n')
    assert main([*command, str(rows), "--show", "1"]) == 0
    assert "… and 1 more messages" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ([], 2, "expected --base or at least one --adapter"),
        (["--base", "--rows", "0"], 2, "--rows: expected 1 or more"),
        (["--base", " "], 2, "expected a message"),
        (["--base", "--figure", "x.gif"], 2, "--figure: expected a name that ends in .png"),
        (["--base", "none.jsonl"], 1, "found no file"),
        (["--adapter", "nowhere"], 2, "expected a folder with adapter_model.safetensors"),
    ],
)
def test_wrong_use_is_one_sentence(toy_folder, capsys, options, status, says):
    assert main(["compare", "--task", str(toy_folder), "--model", "tiny", *options]) == status
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_a_damaged_adapter_is_found_before_the_first_answer(adapters, toy_task, tiny, monkeypatch):
    path = adapters["third"] / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    canned(monkeypatch, [])  # an answer would raise StopIteration
    with pytest.raises(DataError, match="the adapter is damaged"):
        compare(toy_task, tiny, adapters, toy_task.rows("validation")[:2])
