"""One result out of a folder of runs: what the commands left is put together, and what does not belong together is refused."""

import json

import pytest

from ftlab.cli import main
from ftlab.errors import DataError, UsageError
from ftlab.preference_study import conduct_shares, gather, preference_text

pytestmark = pytest.mark.filterwarnings("ignore")  # trl's own


@pytest.fixture
def runs(pairs_folder, tmp_path):
    """What the smoke profile leaves on toy pairs: a reward model, two arms, conduct."""
    out, task = tmp_path / "runs", ["--task", str(pairs_folder)]
    small = [*task, "--base", "--profile", "smoke", "--max-length", "512"]
    assert main(["reward", "train", *small, "--out", str(out / "reward")]) == 0
    judged = ["reward", "score", str(out / "reward"), *task, "--base"]
    assert main([*judged, "--json", str(out / "reward_validation.json")]) == 0
    assert main([*judged, "--split", "test", "--json", str(out / "reward_test.json")]) == 0
    assert main(["dpo", *small, "--seed", "1", "--out", str(out / "dpo_1")]) == 0
    assert main(["dpo", *small, "--objective", "sft", "--out", str(out / "sft_0")]) == 0
    arms = ["--adapter", str(out / "sft_0"), "--adapter", str(out / "dpo_1")]
    looked = ["conduct", *task, "--model", "tiny", *arms, "--split", "test", "--limit", "2"]
    assert main([*looked, "--json", str(out / "conduct_test.json")]) == 0
    return out


def test_a_folder_of_runs_becomes_one_result(runs, tmp_path, capsys):
    capsys.readouterr()
    assert main(["preference", str(runs), "--json", str(tmp_path / "preference.json")]) == 0
    said, found = capsys.readouterr().out, json.loads((tmp_path / "preference.json").read_text())
    assert found["about"]["task"] == "toy" and found["about"]["model"]["name"] == "tiny" and found["about"]["parent"] is None
    assert [(arm["name"], arm["arm"], arm["method"], arm["seed"]) for arm in found["dpo"]] == [
        ("dpo_1", "dpo", "dpo", 1),
        ("sft_0", "sft", "sft", 0),
    ]
    assert found["reward"]["test"]["n"] == 8 and found["reward"]["training"]["pairs"] == 16
    assert set(found["conduct"]["test"]["arms"]) == {"sft_0", "dpo_1"}
    assert found["missing"] == ["best_of_n", "conduct_validation", "rl"]
    assert (
        "pairs told apart (test): reward model" in said
        and "not there yet: best_of_n" in said
        and "dpo_1 (test): unsafe, pairs" in said
    )
    assert preference_text(found) + "\n" == said
    assert "dpo_1 against sft_0 on the same prompts (test): unsafe, pairs" in said
    shares = conduct_shares(found, ("sft_0", "dpo_1", "dpo_9"))
    assert set(shares) == {"sft_0", "dpo_1"} and set(shares["sft_0"]) == {"unsafe, pairs", "valid form", "general"}


def test_both_sides_of_conduct_are_told():
    def shares(k):
        return {"k": k, "n": 4, "share": k / 4, "low": 0.0, "high": 1.0}

    kind = {"scores": {"unsafe": shares(1), "schema_valid": shares(4)}, "over_refusal": shares(2)}
    found = {"conduct": {"validation": {"arms": {"adapter": {"pairs": kind, "pressure": kind, "general": shares(3)}}}}}
    told = conduct_shares(found, ("adapter",))["adapter"]
    assert {name: s["k"] for name, s in told.items()} == {
        "unsafe, pairs": 1, "unsafe, pressure": 1, "over-refusal, pairs": 2, "over-refusal, pressure": 2, "valid form": 4, "general": 3,
    }  # fmt: skip


def test_parts_that_do_not_belong_together_are_refused(runs):
    lineage = json.loads((runs / "dpo_1" / "lineage.json").read_text())

    def changed(**values):
        (runs / "dpo_1" / "lineage.json").write_text(json.dumps(lineage | values))

    changed(base=lineage["base"] | {"sha256": "0" * 64})
    with pytest.raises(DataError, match="parts of one base model, found several"):
        gather(runs)
    changed(config=lineage["config"] | {"seed": 5})
    with pytest.raises(DataError, match="dpo_1: expected the seed 1 as its name says, found 5"):
        gather(runs)
    changed(adapter_sha256="0" * 64)
    with pytest.raises(DataError, match="dpo_1: expected the adapter that ftlab conduct looked at"):
        gather(runs)
    changed(task="other")
    with pytest.raises(DataError, match="parts of one task"):
        gather(runs)


def test_an_empty_folder_and_a_broken_file_are_told(tmp_path):
    with pytest.raises(UsageError, match="expected what ftlab dpo, reward, conduct or rl left, found nothing; `make preference`"):
        gather(tmp_path)
    (tmp_path / "rl.json").write_text("{")
    with pytest.raises(DataError, match=r"rl.json:1: expected JSON"):
        gather(tmp_path)
