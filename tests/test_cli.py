"""The command line as a user meets it: exit statuses, one clear sentence, every row in its place."""

import json
from dataclasses import fields

import pytest

from ftlab.cli import _overrides, _parser, main
from ftlab.errors import DataError
from ftlab.train import SftConfig

GOOD = '{"entities": {}, "intent": "unclear", "missing_info": ["intent"], "next_step": "Is it the password or the lock?"}'


@pytest.fixture
def outputs(tmp_path):
    path = tmp_path / "o.jsonl"
    rows = [
        {"id": "a", "input": "I can't get in.", "output": GOOD},
        {"id": "b", "input": "I can't get in.", "output": "```json\n" + GOOD + "\n```"},
        {"id": "c", "input": "I can't get in.", "output": GOOD.replace('["intent"]', "[]")},
        {"id": "d", "input": "hi", "output": GOOD.replace("{}", '{"email": "x@y.example"}')},
        {"id": "e", "input": "hi", "output": "I have reset your password."},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_check_writes_one_object_per_row(outputs, tmp_path, capsys):
    assert main(["check", "--task", "support_plan", str(outputs), "--json", str(tmp_path / "c.jsonl")]) == 0
    records = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert [(r["id"], r["labels"], r["first_cause"]) for r in records] == [
        ("a", [], None),
        ("b", ["format"], "format"),
        ("c", ["instruction"], "instruction"),
        ("d", ["knowledge"], "knowledge"),
        ("e", ["format", "safety"], "safety"),
    ]
    assert all(set(r) == {"id", "labels", "first_cause", "errors"} for r in records)
    assert "1 of 5 outputs are clean" in capsys.readouterr().out


def test_check_compares_with_an_expected_answer_if_there_is_one(tmp_path):
    row = {"id": "a", "input": "hi", "output": GOOD, "expected": json.loads(GOOD) | {"intent": "out_of_scope"}}
    (tmp_path / "o.jsonl").write_text(json.dumps(row))
    assert main(["check", "--task", "support_plan", str(tmp_path / "o.jsonl"), "--json", str(tmp_path / "c")]) == 0
    assert json.loads((tmp_path / "c").read_text())["labels"] == ["knowledge"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "o.jsonl:1: not a line of JSON"),
        ('{"id": "a", "input": "x"}', "raw text"),
        ('{"id": "a", "output": "x"}', "lacks input"),
    ],
)
def test_bad_rows_are_exit_1_with_file_and_line(tmp_path, capsys, line, says):
    (tmp_path / "o.jsonl").write_text(line)
    assert main(["check", "--task", "support_plan", str(tmp_path / "o.jsonl")]) == 1
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["check", "--task", "nothing", "x.jsonl"], "built-in task"),
        (["train", "--task", "support_plan", "--profile", "fast", "--out", "x"], "--profile"),
        (["train", "--task", "support_plan", "--epochs", "0", "--out", "x"], "--epochs: expected a number above 0"),
        (["run", "support_plan", "--model", "nonesuch", "--profile", "smoke", "--out", "{tmp}"], "--model"),
        (["try", " "], "expected a message"),
        (["predict", "--task", "support_plan", "--adapter", "nowhere", "{in}", "--out", "x"], "expected a folder with an adapter"),
    ],
)
def test_wrong_use_is_exit_2_with_one_sentence(tmp_path, capsys, command, says):
    (tmp_path / "in.jsonl").write_text('{"id": "a", "input": "hi"}')
    command = [part.format(tmp=tmp_path / "run", **{"in": tmp_path / "in.jsonl"}) for part in command]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said and said.count("\n") == 1


def test_argparse_mistakes_are_exit_2_too(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--task", "support_plan", "--base", "--adapter", "x", "f", "--out", "o"])
    assert stop.value.code == 2


def test_a_missing_file_is_exit_1(capsys):
    assert main(["check", "--task", "support_plan", "none.jsonl"]) == 1
    assert "found no file" in capsys.readouterr().err


def test_an_unwritable_place_is_exit_1(outputs, capsys):
    assert main(["check", "--task", "support_plan", str(outputs), "--json", "/dev/null/x/c.jsonl"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_odd_characters_survive(tmp_path):
    (tmp_path / "o.jsonl").write_text(json.dumps({"id": "a", "input": "ñ \ud83d\ude42", "output": "\ud800"}))
    assert main(["check", "--task", "support_plan", str(tmp_path / "o.jsonl"), "--json", str(tmp_path / "c")]) == 0
    assert json.loads((tmp_path / "c").read_text())["first_cause"] == "format"


def test_cost_predicts_and_writes(toy_folder, tmp_path, capsys):
    out = tmp_path / "new" / "cost.json"
    options = ["--profile", "smoke", "--train-rows", "8", "--general-rows", "0", "--rank", "2", "--json", str(out)]
    assert main(["cost", "--task", str(toy_folder), *options]) == 0
    cost = json.loads(out.read_text())
    assert cost["steps"] == 1 and cost["tokens"] > 0 and "1 steps" in capsys.readouterr().out


def test_bench_makes_the_folder_and_writes_its_figures(tmp_path, capsys):
    out = tmp_path / "new" / "check.json"
    assert main(["bench", "check", "--model", "tiny", "--rounds", "1", "--rows", "20", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["identical_rows"] == 1.0 and result["rounds"][0]["ours"]["tokens"] == 20 and "check: " in capsys.readouterr().out


def test_bench_keeps_the_kinds_it_has_finished(tmp_path, monkeypatch):
    def bench(kind, **options):
        if kind == "preference":
            raise DataError("the process failed")
        return {"kind": kind, **options}

    monkeypatch.setattr("ftlab.bench.bench", bench)
    assert main(["bench", "all", "--rounds", "2", "--json", str(tmp_path / "b.json")]) == 1
    assert json.loads((tmp_path / "b.json").read_text()) == {"sft": {"kind": "sft", "rounds": 2}}


@pytest.mark.parametrize(
    ("kind", "option"), [("growth", "--rows"), ("growth", "--task"), ("cost", "--rounds"), ("cost", "--model")]
)
def test_a_study_refuses_what_it_does_not_use(kind, option, capsys):
    assert main(["bench", kind, option, "2"]) == 2
    assert f"expected no {option}" in capsys.readouterr().err


def test_layers_takes_rounds_as_seeds(monkeypatch):
    monkeypatch.setattr("ftlab.bench.layers_study", seen := lambda **options: seen.options.update(options) or {})
    seen.options = {}
    assert main(["bench", "layers", "--rounds", "2", "--rows", "5"]) == 0
    assert seen.options == {"seeds": 2, "rows": 5}


def test_every_setting_of_the_table_is_an_option_and_an_override():
    args = _parser().parse_args(["train", "--task", "t", "--out", "o", "--text-weight", "0.5", "--last-layers", "2"])
    assert {name: value for name, value in _overrides(args).items() if value is not None} == {"text_weight": 0.5, "last_layers": 2}
    assert set(_overrides(args)) <= {field.name for field in fields(SftConfig)}
