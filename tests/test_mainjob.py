"""The main job end to end on a user's folder and the tiny model, through the command line."""

import json
import os
import signal

import pytest

from ftlab.cli import main
from ftlab.errors import UsageError
from ftlab.mainjob import few_shot_examples, run_main_job, train_adapter
from ftlab.models import load_model
from ftlab.task import file_sha256
from ftlab.train import sft_config
from ftlab.train.loop import Run


@pytest.fixture
def run(toy_folder, tmp_path, capsys):
    """One run by the command line; gives the run folder."""
    out = tmp_path / "run"
    assert main(["run", str(toy_folder), "--profile", "smoke", "--out", str(out), "--epochs", "1"]) == 0
    return out


def test_a_folder_with_two_files_runs_to_a_report(run, capsys):
    results = json.loads((run / "results.json").read_text())
    assert results["about"]["derived"] == ["rules", "prompt_short", "prompt_long", "validation.jsonl", "test.jsonl"]
    assert set(results["systems"]) == {"tfidf", "prompt", "few_shot", "tuned"}
    assert results["systems"]["tfidf"]["scores"]["class_right"]["share"] > 0.8  # the positive control: it can be learnt
    assert "</html>" in (run / "report.html").read_text() and (run / "report.md").exists()
    assert (run / "adapter" / "lineage.json").exists()


def test_a_task_whose_values_are_copied_is_scored_under_that_constraint_too(toy_folder, tmp_path):
    rule = {"rule": "copied_from_input", "path": "number", "code": "fabricated_entity"}
    (toy_folder / "rules.json").write_text(json.dumps({"rules": [rule]}))
    assert main(["run", str(toy_folder), "--profile", "smoke", "--out", str(tmp_path / "run")]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["systems"]["constrained"]["scores"]["fabricated"]["k"] == 0
    assert "constrained is the tuned model" in (tmp_path / "run" / "report.md").read_text()


def test_the_report_has_no_link_to_elsewhere(run):
    page = (run / "report.html").read_text()
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_every_system_is_scored_on_the_same_rows(run):
    rows = json.loads((run / "rows.json").read_text())
    ids = {name: [r["id"] for r in records] for name, records in rows.items()}
    assert len({tuple(i) for i in ids.values()}) == 1


def test_a_second_run_generates_and_trains_nothing(run, toy_folder, monkeypatch, capsys):
    def never(*args, **kwargs):
        raise AssertionError("computed again")

    before = json.loads((run / "results.json").read_text())
    monkeypatch.setattr("ftlab.outputs.generate", never)
    monkeypatch.setattr("ftlab.mainjob.train_sft", never)
    assert main(["run", str(toy_folder), "--profile", "smoke", "--out", str(run), "--epochs", "1", "--resume"]) == 0
    after = json.loads((run / "results.json").read_text())
    assert {**before, "cost": None} == {**after, "cost": None}
    assert before["cost"]["reused"] == [] and len(after["cost"]["reused"]) == 5


def test_an_adapter_can_be_given_instead_of_trained(run, toy_folder, tmp_path):
    from ftlab import load_task

    results = run_main_job(
        load_task(toy_folder),
        out=tmp_path / "again",
        profile_name="smoke",
        adapter=run / "adapter",
        say=lambda text: None,
        progress=False,
    )
    first = json.loads((run / "results.json").read_text())
    assert results["about"]["adapter_sha256"] == first["about"]["adapter_sha256"]
    assert results["systems"]["tuned"]["scores"] == first["systems"]["tuned"]["scores"]


def test_few_shot_examples_are_training_rows_of_different_classes(toy_task):
    examples = few_shot_examples(toy_task)
    assert {row.id for row in examples} <= {row.id for row in toy_task.rows("train")}
    assert len({row.output["intent"] for row in examples}) == len(examples) == 3


def test_predict_keeps_order_and_every_row(toy_folder, tmp_path, capsys):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"id": "b", "input": "hello", "extra": 1}\n\n{"id": "a", "input": [{"role": "user", "content": "ho"}]}\n')
    command = ["predict", "--task", str(toy_folder), "--model", "tiny", "--base", "--max-new-tokens", "4"]
    assert main([*command, str(source), "--out", str(out)]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["id"] for r in records] == ["b", "a"] and records[0]["extra"] == 1
    assert all(isinstance(r["output"], str) for r in records)


def test_eval_writes_one_object_with_intervals(toy_folder, tmp_path, capsys, run):
    out = tmp_path / "e.json"
    command = ["eval", "--task", str(toy_folder), "--model", "tiny", "--adapter", str(run / "adapter"), "--max-new-tokens", "4"]
    assert main([*command, str(toy_folder / "train.jsonl"), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["n"] == 60 and set(found["scores"]["strict"]) == {"k", "n", "share", "low", "high"} and len(found["rows"]) == 60


def test_an_adapter_for_another_model_is_refused(run, toy_folder, tmp_path, capsys):
    lineage = json.loads((run / "adapter" / "lineage.json").read_text())
    (run / "adapter" / "lineage.json").write_text(json.dumps(lineage | {"base": {"model": "big-one", "sha256": "0" * 64}}))
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": "b", "input": "hello"}\n')
    command = ["predict", "--task", str(toy_folder), "--model", "tiny", "--adapter", str(run / "adapter")]
    assert main([*command, str(source), "--out", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert "big-one" in said and "tiny" in said and "Traceback" not in said


def test_a_task_without_adapter_says_what_to_do(toy_folder, tmp_path, capsys):
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": "b", "input": "hello"}\n')
    assert main(["predict", "--task", str(toy_folder), "--model", "tiny", str(source), "--out", str(tmp_path / "o")]) == 2
    assert "ships no adapter" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_done_and_says_how_to_go_on(toy_folder, tmp_path, monkeypatch, capsys):
    def interrupted(self, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "step", interrupted)
    assert main(["run", str(toy_folder), "--profile", "smoke", "--out", str(tmp_path / "run")]) == 130
    assert "--resume" in capsys.readouterr().err
    (kept,) = (tmp_path / "cache" / "outputs").glob("*.jsonl")
    assert len(kept.read_text().splitlines()) > 8  # the untuned model's answers of both prompts and to the general ones


def trained(task, folder, **options):
    """`train_adapter` on a fresh tiny model; gives (lineage, what was said)."""
    said, passes = [], options.pop("epochs", 2)
    config = sft_config("smoke", epochs=passes, train_rows=8, general_rows=0, **options.pop("changes", {}))
    lineage = train_adapter(
        task, load_model("tiny"), config, folder, profile_name="smoke", say=said.append, progress=False, **options
    )
    return lineage, said


def interrupt_in_pass(monkeypatch, n):
    """Ctrl-C in the first step of pass n."""
    step = Run.step

    def interrupted(self, batch):
        if self.epoch == n - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(Run, "step", interrupted)


def test_training_again_and_stopping_goes_on_and_does_not_keep_half_of_it(toy_task, tmp_path, monkeypatch):
    first, _ = trained(toy_task, tmp_path / "a")
    interrupt_in_pass(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        trained(toy_task, tmp_path / "a")
    assert not (tmp_path / "a" / "lineage.json").exists()
    monkeypatch.undo()
    again, said = trained(toy_task, tmp_path / "a", resume=True)
    assert not any("already" in line for line in said)
    assert again["adapter_sha256"] == first["adapter_sha256"] == file_sha256(tmp_path / "a" / "adapter_model.safetensors")


def test_an_adapter_is_kept_only_with_the_weights_of_its_lineage(toy_task, tmp_path):
    first, _ = trained(toy_task, tmp_path / "a")
    assert "already" in trained(toy_task, tmp_path / "a", resume=True)[1][0]
    assert "already" in trained(toy_task, tmp_path / "a", resume=True, changes={"eval_batch_size": 3})[1][0]
    (tmp_path / "a" / "adapter_model.safetensors").write_bytes(b"other weights")
    again, said = trained(toy_task, tmp_path / "a", resume=True)
    assert not any("already" in line for line in said) and again["adapter_sha256"] == first["adapter_sha256"]


def test_a_run_that_cannot_start_leaves_the_finished_adapter_as_it_is(toy_task, tmp_path):
    trained(toy_task, tmp_path / "a")
    before = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    with pytest.raises(UsageError, match="--memory-limit"):
        trained(toy_task, tmp_path / "a", changes={"memory_limit": 20})
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == before
