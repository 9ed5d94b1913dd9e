"""Preference tuning of a task: what is held out, one adapter out of an adapter, equal tokens, and what it did to conduct."""

import json
import os
import subprocess
import sys

import pytest
import torch

from ftlab.artifact import apply_adapter, attach_adapter, read_lineage
from ftlab.cli import main
from ftlab.errors import DataError, UsageError
from ftlab.models import load_model
from ftlab.prefer import (
    PAIRS_TEST,
    conduct,
    dpo_config,
    hold_out,
    pair_rows,
    split_pairs,
    task_pairs,
    tune_on_pairs,
)
from ftlab.train.loop import Run
from ftlab.train.preference import (
    Pair,
    Preference,
    chosen_examples,
    encode_pairs,
    plain_pair_logps,
    prepare_dpo,
    train_dpo,
)


def settings(**changes):
    return dpo_config("smoke", **({"learning_rate": 1e-2, "rank": 4, "alpha": 8, "max_length": 512} | changes))


def tune(task, out, adapter=None, loaded=None, **changes):
    options = {"adapter": adapter, "profile_name": "smoke", "say": lambda _: None, "progress": False}
    return tune_on_pairs(task, loaded or load_model("tiny"), settings(**changes), out, **options)


@pytest.fixture
def parent(pairs_task, tmp_path):
    tune(pairs_task, tmp_path / "parent", rank=2, alpha=4)
    return tmp_path / "parent"


def test_held_out_pairs_are_spread_and_the_same_for_any_number_trained_on(pairs_task):
    """20 pairs, 4 of them held out: the middle of each fifth of five."""
    train, held_out = split_pairs(pairs_task, 0, 4)
    assert [pair.id for pair in held_out] == ["p2", "p7", "p12", "p17"] and len(train) == 16
    few, same = split_pairs(pairs_task, 4, 4)
    assert same == held_out and len(few) == 4 and all(pair in train for pair in few)
    assert hold_out(train, 0) == (train, [])
    with pytest.raises(UsageError, match="--validation-pairs: expected fewer than the 20 pairs there are, found 20"):
        split_pairs(pairs_task, 0, 20)


def test_pairs_stand_under_the_prompt_that_predict_uses(pairs_task):
    row = pairs_task.rows("train")[0]
    assert task_pairs(pairs_task)[0].messages[0] == pairs_task.conversation(row)[0]


def test_held_out_messages_become_rows_labelled_with_the_chosen_reply(pairs_task):
    rows = pair_rows(task_pairs(pairs_task, PAIRS_TEST))
    assert rows[0].output["say"] == "Thank you." and rows[0].lang == "en" and rows[0].tags == ("typical",)
    assert rows[0].text == task_pairs(pairs_task, PAIRS_TEST)[0].messages[-1]["content"]
    with pytest.raises(DataError, match="1 pair") as error:
        pair_rows([Preference("a", "hi", "a text", "another", "p.jsonl:3")])
    assert error.value.problems[0].startswith("p.jsonl:3: expected the chosen reply to be a JSON object, found 'a text'")


def test_what_is_watched_starts_at_the_reference_and_ends_after_the_last_step(pairs_task, tmp_path):
    """Before the first step no reply has gained anything, so the margin is 0 and no chosen reply gained more."""
    train, held_out = split_pairs(pairs_task, 0, 4)
    summary = train_dpo(
        load_model("tiny"), train, settings(watch_every=3, batch_size=4), tmp_path, held_out=held_out, progress=False
    )
    trace = summary["trace"]
    assert [point["step"] for point in trace] == [0, 3, 4] and summary["held_out"] == 4
    assert trace[0]["margin"] == pytest.approx(0, abs=1e-3) and trace[0]["chosen_logp"] == pytest.approx(
        summary["before"]["chosen_logp"]
    )
    assert trace[-1]["margin"] > 0.1 and {k: v for k, v in trace[-1].items() if k != "step"} == {
        k: v for k, v in summary["curve"][-1].items() if k not in ("epoch", "train_loss")
    }


def test_a_pause_keeps_the_trace(pairs_task, tmp_path, monkeypatch):
    train, held_out = split_pairs(pairs_task, 0, 4)
    given = {"held_out": held_out, "progress": False}
    straight = train_dpo(load_model("tiny"), train, settings(batch_size=4), tmp_path / "straight", **given)
    step, count = Run.step, iter(range(100))

    def interrupted(self, batch):
        if next(count) == 2:
            os.kill(os.getpid(), 2)
        return step(self, batch)

    monkeypatch.setattr(Run, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_dpo(load_model("tiny"), train, settings(batch_size=4), tmp_path / "paused", **given)
    resumed = train_dpo(load_model("tiny"), train, settings(batch_size=4), tmp_path / "paused", resume=True, **given)
    assert resumed["trace"] == straight["trace"] and len(straight["trace"]) == 5


def test_equal_tokens_are_reached_with_chosen_replies_alone():
    """Two pairs of 2 + 3 + 5 and 2 + 4 + 4 tokens: 20 in all. The chosen ones have 5 and 6; 9 are missing, so both come again but
    the third time round none does: 22 tokens, where 20 were asked for and 16 or 17 would have been further off."""
    pairs = [Pair([1, 1], [2] * 3, [3] * 5), Pair([1, 1], [4] * 4, [5] * 4)]
    examples = chosen_examples(pairs, 0)
    assert sum(len(ids) for ids, _, _ in examples) == 22
    assert [ids for ids, _, _ in examples[:2]] == [[1, 1, 2, 2, 2], [1, 1, 4, 4, 4, 4]]
    assert all(start == 2 and len(weights) == len(ids) - 2 for ids, start, weights in examples)


def test_the_arm_on_chosen_replies_costs_the_same_tokens_and_is_measured_alike(pairs_task, tmp_path):
    found = {name: tune(pairs_task, tmp_path / name, objective=name)["training"] for name in ("dpo", "sft")}
    assert found["sft"]["tokens"] == pytest.approx(found["dpo"]["tokens"], rel=0.02)
    assert found["sft"]["trace"][0] == pytest.approx(found["dpo"]["trace"][0]) and found["sft"]["trace"][-1]["margin"] != 0
    gained = found["sft"]["trace"][-1]["chosen_logp"] - found["sft"]["before"]["chosen_logp"]
    assert gained > found["dpo"]["trace"][-1]["chosen_logp"] - found["dpo"]["before"]["chosen_logp"] > 0


def test_going_on_from_an_adapter_leaves_one_adapter_for_the_same_base(pairs_task, parent, tmp_path):
    """The reference is the parent; what comes out is applied to the base model alone."""
    loaded = load_model("tiny")
    attach_adapter(loaded, parent)
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())
    pairs = encode_pairs(split_pairs(pairs_task, 0, 4)[1], loaded.tokenizer, 512)
    expected = plain_pair_logps(loaded.model, pairs)[0].mean().item()
    lineage = tune(pairs_task, tmp_path / "child", adapter=parent, loaded=load_model("tiny"))
    assert lineage["training"]["before"]["chosen_logp"] == pytest.approx(expected, rel=1e-5)
    assert lineage["parent"] == {"method": "dpo", "adapter_sha256": read_lineage(parent)["adapter_sha256"]}
    assert lineage["config"]["rank"] == 2 and lineage["config"]["alpha"] == 4  # the parent's
    fresh = load_model("tiny")
    apply_adapter(fresh, tmp_path / "child")
    after = plain_pair_logps(fresh.model, pairs)[0].mean().item()
    assert after == pytest.approx(lineage["training"]["trace"][-1]["chosen_logp"], rel=1e-3)  # stored in 16 bits


def test_an_equal_tuning_is_kept_and_another_parent_is_another_tuning(pairs_task, parent, tmp_path):
    tune(pairs_task, tmp_path / "a")
    written, said = (tmp_path / "a" / "adapter_model.safetensors").stat().st_mtime_ns, []
    options = {"profile_name": "smoke", "resume": True, "say": said.append, "progress": False}
    tune_on_pairs(pairs_task, load_model("tiny"), settings(), tmp_path / "a", adapter=None, **options)
    assert (tmp_path / "a" / "adapter_model.safetensors").stat().st_mtime_ns == written and "not trained again" in said[0]
    tune_on_pairs(pairs_task, load_model("tiny"), settings(), tmp_path / "a", adapter=parent, **options)
    assert (tmp_path / "a" / "adapter_model.safetensors").stat().st_mtime_ns != written


def test_a_start_that_is_no_plain_adapter_for_this_base_is_refused(pairs_task, parent, tmp_path):
    lineage = json.loads((parent / "lineage.json").read_text())
    (parent / "lineage.json").write_text(json.dumps(lineage | {"method": "reward"}))
    with pytest.raises(UsageError, match="expected an adapter that writes replies, found a reward model"):
        attach_adapter(load_model("tiny"), parent)
    (parent / "lineage.json").write_text(json.dumps(lineage | {"base": {"model": "other", "sha256": "0" * 64}}))
    with pytest.raises(UsageError, match="was made for other"):
        attach_adapter(load_model("tiny"), parent)


def test_weights_of_a_model_in_tuning_have_no_hash(pairs_task, parent, tmp_path):
    loaded = load_model("tiny")
    attach_adapter(loaded, parent)
    assert loaded.adapter_sha256
    prepare_dpo(loaded, task_pairs(pairs_task), settings(), tmp_path / "run")
    assert loaded.adapter_sha256 is None


def test_conduct_compares_arms_on_the_same_prompts(pairs_task, parent):
    found = conduct(
        pairs_task,
        {"parent": parent, "base": None},
        model="tiny",
        validation_pairs=4,
        limit=2,
        max_new_tokens=4,
        say=lambda _: None,
    )
    assert set(found["arms"]) == {"parent", "base"} and set(found["paired"]) == {"base"}
    arm = found["arms"]["parent"]
    assert arm["lineage"]["method"] == "dpo" and arm["pairs"]["n"] == 2 and arm["general"]["n"] == 2
    assert "pressure" not in arm and found["paired"]["base"]["pairs"]["unsafe"]["n"] == 2  # no row is tagged adversarial


def test_the_command_line_tunes_and_compares(pairs_folder, tmp_path, capsys):
    out = tmp_path / "dpo"
    tune = ["dpo", "--task", str(pairs_folder), "--profile", "smoke", "--out", str(out), "--pairs", "8", "--max-length", "512"]
    assert main(tune) == 2 and "ships no adapter" in capsys.readouterr().err
    assert main([*tune, "--base"]) == 0
    assert "log-probability of chosen" in capsys.readouterr().out and read_lineage(out)["method"] == "dpo"
    assert main([*tune, "--base", "--objective", "ppo"]) == 2 and "objective: expected dpo or sft" in capsys.readouterr().err
    twins = ["conduct", "--task", str(pairs_folder), "--model", "tiny", "--adapter", str(out), "--adapter", str(out)]
    assert main(twins) == 2 and "different names" in capsys.readouterr().err


def test_a_task_without_pairs_is_told(toy_task, tmp_path):
    with pytest.raises(UsageError, match=r"expected pairs.jsonl in its folder, found none"):
        tune(toy_task, tmp_path)


LAUNCH = """
import sys, warnings
warnings.simplefilter("ignore")
from ftlab.cli import main
sys.exit(main())
"""


def test_two_processes_take_the_same_steps_as_one(pairs_folder, tmp_path):
    """The same command on one CPU process and, through torch's launcher and gloo, on two.

    trl's supervised term is a mean over the tokens of one process, so that replies of different lengths would weigh otherwise; here all
    chosen replies have the same number of tokens.
    """
    pairs = [json.loads(line) for line in (pairs_folder / "pairs.jsonl").read_text().splitlines()]
    for i, pair in enumerate(pairs):
        pair["chosen"]["intent"] = ("login", "other")[i % 2]
        pair["rejected"]["intent"] = "refund"
    (pairs_folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (tmp_path / "launch.py").write_text(LAUNCH)
    curves = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        tune = ["dpo", "--task", str(pairs_folder), "--base", "--profile", "smoke", "--trainer", "trl", "--batch-size", "4"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, *(launcher if processes > 1 else []), str(tmp_path / "launch.py"), *tune, "--out", str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        training = read_lineage(out)["training"]
        assert training["processes"] == processes and training["steps"] == 4
        curves.append([point["loss"] for point in training["curve"] if "loss" in point])
    assert curves[1] == pytest.approx(curves[0], rel=1e-4) and curves[0][0] > curves[0][-1] + 0.01
