"""The benchmark computes what it says it compares: both sides on the same rows, the tiny model, in this process, nothing timed."""

import json

import pytest

from ftlab import bench_worker
from ftlab.bench import SIDES, _ratios, bench, machine, report
from ftlab.cost import predict_cost
from ftlab.errors import UsageError
from ftlab.train import sft_config

JOB = {"task": "support_plan", "model": "tiny", "rows": 4}
FIGURES = {"tokens", "seconds", "cpu_s", "peak_memory_mb"}
pytestmark = pytest.mark.filterwarnings("ignore")  # trl's own


def measured(kind, side, task):
    work = getattr(bench_worker, f"{kind}_{side}", bench_worker.generate_side)
    return work(JOB | {"kind": kind, "side": side}, task)


@pytest.fixture(scope="module")
def task():
    from ftlab import load_task

    return load_task("support_plan")


@pytest.mark.parametrize("kind", ["sft", "preference"])
def test_both_trainers_see_the_same_tokens_and_agree(kind, task):
    ours, stock = (measured(kind, side, task) for side in ("ours", "stock"))
    assert FIGURES <= set(ours) and FIGURES <= set(stock)
    # trl computes a prompt for each of its two answers; we count it once on both sides
    assert ours["tokens"] == stock["tokens"] > 0
    assert measured(kind, "gradients", task)["max_relative_gradient_difference"] < 1e-3


def test_preference_losses_agree(task):
    assert measured("preference", "gradients", task)["relative_loss_difference"] < 1e-3


def test_all_ways_to_generate_give_the_same_answers(task):
    found = {side: measured("generate", side, task)["outputs"] for side in SIDES["generate"] if side != "ctranslate2-int8"}
    assert all(answers == found["ours"][: len(answers)] for answers in found.values())


def test_checker_and_schema_accept_the_labelled_rows(task):
    assert measured("check", "ours", task)["outputs"] == measured("check", "stock", task)["outputs"] == [True] * 4


def test_ratios_are_medians_of_the_rounds():
    """Ours: 100, 100, 400 tokens a second; stock: 50 each. The median of 2, 2 and 8 is 2."""

    def side(seconds, memory=10.0):
        return {"tokens": 100, "seconds": seconds, "cpu_s": seconds, "peak_memory_mb": memory}

    rounds = [{"ours": side(s), "stock": side(2.0, 40.0)} for s in (1.0, 1.0, 0.25)]
    assert _ratios(rounds)["ratio"] == {"tokens_per_s": 2.0, "cpu_s": 0.5, "peak_memory": 0.25}


def test_a_round_in_processes_has_the_promised_keys():
    result = bench("check", model="tiny", rows=20, rounds=1, say=lambda text: None)
    assert {"ratio", "identical_rows", "rounds", "machine"} <= set(result) and set(result["ratio"]) == {
        "tokens_per_s",
        "cpu_s",
        "peak_memory",
    }
    assert result["identical_rows"] == 1.0 and "check: " in report({"check": result}) and json.dumps(result)


def test_the_machine_is_described():
    found = machine()
    assert found["matmul_gflops"] > 0 and found["cores"] >= 1 and found["threads"] >= 1


@pytest.mark.parametrize(
    ("arguments", "says"), [({"kind": "speed"}, "expected one of sft"), ({"kind": "sft", "rounds": 0}, "--rounds")]
)
def test_wrong_use_is_one_sentence(arguments, says):
    with pytest.raises(UsageError, match=says):
        bench(**arguments)


def test_cost_counts_the_steps_and_tokens_of_the_run_it_predicts(tiny, toy_task, tmp_path):
    from ftlab.models import load_model
    from ftlab.train import train_sft

    config = sft_config("smoke", epochs=2, train_rows=12, batch_size=4)
    cost = predict_cost(toy_task, tiny, config)
    done = train_sft(toy_task, load_model("tiny"), config, tmp_path / "a", progress=False)
    assert (cost["steps"], cost["tokens"]) == (done["steps"], done["tokens"]) and cost["seconds"] > 0
