"""Prose, results, data and the shipped adapter say the same."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ftlab import evaluate_outputs, load_task
from ftlab.artifact import CONFIG, WEIGHTS, adapter_identity, read_lineage
from ftlab.cli import _parser
from ftlab.notebook import notebook_problems
from ftlab.readme import ROOT, documents, fill
from ftlab.task import DATA, builtin_tasks, file_sha256

TASK = load_task("support_plan")
SHIPPED = [load_task(name) for name in builtin_tasks() if (DATA / name / "adapter").is_dir()]


def results(task):
    return json.loads((ROOT / "results" / f"{task.name}.json").read_text(encoding="utf-8"))


def published_rows(task):
    return json.loads((ROOT / "results" / f"{task.name}_rows.json").read_text(encoding="utf-8")).items()


of_each_shipped = pytest.mark.parametrize("task", SHIPPED, ids=lambda task: task.name)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_quoted_numbers_are_the_computed_ones(path):
    text = path.read_text(encoding="utf-8")
    assert "<!-- results:" in text and fill(text, documents()[path]) == text, "run python -m ftlab.readme"


def test_a_changed_number_would_be_noticed():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    forged = re.sub(
        r"\| \*\*tuned, short prompt\*\*, free decoding \| \d+\.\d", "| **tuned, short prompt**, free decoding | 12.3", text
    )
    assert forged != text and fill(forged, documents()[ROOT / "README.md"]) == text


@of_each_shipped
def test_results_are_about_the_rows_that_are_here(task):
    about = results(task)["about"]
    assert about["hashes"] == task.hashes()
    assert about["test_rows_scored"] == len(task.rows("test"))


@of_each_shipped
def test_published_rows_add_up_to_the_published_scores(task):
    systems = results(task)["systems"]
    for name, records in published_rows(task):
        for score, share in systems[name]["scores"].items():
            assert sum(r["passes"][score] for r in records) == share["k"], (name, score)


@of_each_shipped
def test_published_outputs_get_the_same_verdict_today(task):
    systems = results(task)["systems"]
    for name, records in published_rows(task):
        today = evaluate_outputs(task, task.rows("test"), [r["output"] for r in records])
        assert today["scores"] == systems[name]["scores"], name


@of_each_shipped
def test_the_shipped_adapter_is_small_and_whole(task):
    folder = task.folder / "adapter"
    assert (folder / WEIGHTS).stat().st_size <= 10_000_000
    lineage = read_lineage(folder)
    assert lineage["adapter_sha256"] == file_sha256(folder / WEIGHTS) == results(task)["about"]["adapter_sha256"]
    assert json.loads((folder / CONFIG).read_text())["peft_type"] == "LORA"


@of_each_shipped
def test_the_shipped_adapter_was_trained_on_the_rows_that_are_here(task):
    lineage = read_lineage(task.folder / "adapter")
    splits = {**task.splits, "validation": with_retired(task, "validation")}
    here = replace(task, splits=splits).hashes()
    assert {k: lineage["hashes"][k] for k in ("train", "validation", "prompt_short")} == {
        k: here[k] for k in ("train", "validation", "prompt_short")
    }


def test_what_is_told_of_the_inside_is_told_of_the_shipped_adapter():
    told = json.loads((ROOT / "results" / "inside.json").read_text(encoding="utf-8"))
    base = read_lineage(TASK.folder / "adapter")["base"]["sha256"]
    assert told["about"]["sha256"] == {"before": [base], "after": [base, adapter_identity(TASK.folder / "adapter")]}
    assert (told["before"], told["after"], told["task"]) == ("smollm2-135m", "data/support_plan/adapter", TASK.name)


def with_retired(task, split):
    """A split as it was before rows of it were retired, which stand with the reason in a file of their own."""
    rows, path = list(task.rows(split)), task.folder / "retired.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        record = json.loads(line)
        if record["retired"]["split"] == split:
            rows.append(replace(rows[0], id=record["id"], input=record["input"], output=record["output"]))
    return tuple(sorted(rows, key=lambda row: row.id))


def test_the_data_set_has_the_promised_size_and_kinds():
    assert len(TASK.rows("train")) >= 600 and len(TASK.rows("validation")) >= 100 and len(TASK.rows("test")) >= 250
    kinds = {"typical", "messy", "edge", "ambiguous", "adversarial", "mixed_language", "counter_example"}
    for split in TASK.splits:
        assert {row.tags[0] for row in TASK.rows(split)} == kinds
        assert {row.output["intent"] for row in TASK.rows(split)} == set(TASK.schema["properties"]["intent"]["enum"])


def test_readme_names_only_commands_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"^(?:\.venv/bin/)?ftlab ([\w-]+)", text, re.MULTILINE))
    known = next(a for a in _parser()._actions if a.dest == "command").choices
    assert commands and commands <= set(known)
    targets = set(re.findall(r"`?make ([\w-]+)", text))
    assert targets - set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) == set()


def test_links_in_documents_lead_somewhere():
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", TASK.folder / "DATA_CARD.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name} → {target}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_stored_executed_and_clean(path):
    assert notebook_problems(path) == []


def test_a_notebook_out_of_order_is_noticed(tmp_path):
    notebook = json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code[0]["execution_count"] = 7
    code[1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["/home/someone/x"]}]
    (tmp_path / "x.ipynb").write_text(json.dumps(notebook))
    said = notebook_problems(tmp_path / "x.ipynb")
    assert len(said) == 2 and "in order" in said[0] and "path of a machine" in said[1]


def test_no_file_names_a_path_of_a_machine():
    suffixes = {".py", ".md", ".json", ".jsonl", ".toml", ".txt", ".ipynb"}
    for path in ROOT.rglob("*"):
        hidden = any(part.startswith(".") or part in ("runs", "build") for part in path.relative_to(ROOT).parts)
        if not hidden and path.is_file() and path.suffix in suffixes and path.name != Path(__file__).name:
            assert str(Path.home()) + "/" not in path.read_text(encoding="utf-8"), path
