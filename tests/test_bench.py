"""The benchmark computes what it says it compares: both sides on the same rows, the tiny model, in this process, nothing timed."""

import json

import pytest

from ftlab import bench_worker, readme
from ftlab.bench import SIDES, _ratios, bench, cost_study, layers_study, machine, report
from ftlab.cost import predict_cost
from ftlab.errors import DataError, UsageError
from ftlab.plots import growth_curves
from ftlab.readme import performance_blocks, speed_block
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
    rounds = [{"ours": side_figures(s), "stock": side_figures(2.0, memory=40.0)} for s in (1.0, 1.0, 0.25)]
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
    ("arguments", "says"),
    [
        ({"kind": "speed"}, "expected one of sft"),
        ({"kind": "sft", "rounds": 0}, "--rounds"),
        ({"kind": "sft", "rows": -1}, "--rows"),
    ],
)
def test_wrong_use_is_one_sentence(arguments, says):
    with pytest.raises(UsageError, match=says):
        bench(**arguments)


def test_a_side_whose_package_is_missing_says_null(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["bench_worker", json.dumps(JOB | {"kind": "generate", "side": "ctranslate2"})])
    bench_worker.main()
    assert capsys.readouterr().out == "null\n"


def test_a_side_that_cannot_run_is_left_out(monkeypatch):
    outputs = {"outputs": ["a", "b"]}
    stub(monkeypatch, lambda job: None if "ctranslate2" in job["side"] else side_figures(1.0) | outputs)
    result = bench("generate", rounds=2, say=lambda text: None)
    assert set(result["sides"]) == {"ours", "stock", "ours_single", "stock_single"} == set(result["rounds"][1])
    assert set(result["identical_rows_by_side"]) == {"stock", "ours_single", "stock_single"}


def test_labels_that_are_all_alike_make_no_pairs(tiny, toy_task):
    for row in toy_task.rows("train"):
        row.output.update(toy_task.rows("train")[0].output)
    with pytest.raises(DataError, match="different labels"):
        bench_worker._pairs(JOB, toy_task, tiny)


def test_the_last_row_has_a_pair_too(tiny, toy_task):
    rows = len(toy_task.rows("train"))
    pairs, _, _ = bench_worker._pairs(JOB | {"rows": rows}, toy_task, tiny)
    assert len(pairs) == rows and all(pair.chosen != pair.rejected for pair in pairs)


def side_figures(seconds, tokens=100, memory=10.0):
    return {"tokens": tokens, "seconds": seconds, "cpu_s": seconds, "peak_memory_mb": memory}


def stub(monkeypatch, figures):
    """Replace the processes of the bench by a function from job to figures; returns the jobs asked for."""
    jobs = []

    def run(job):
        jobs.append(job)
        return {"matmul_gflops": 100.0, "matmul_gflops_stock": 50.0} if job["kind"] == "machine" else figures(job)

    monkeypatch.setattr("ftlab.bench._run", run)
    return jobs


def layers_figures(job):
    """All layers: 100 tokens/s and rows right by (1, 0) and (1, 1); last layers: 200, then 300 tokens/s, all right; trl: 50."""
    if job["kind"] == "sft":
        return side_figures(2.0)
    seed, last = job["seed"], bool(job["last_layers"])
    hits = {name: [True, last or seed == 1] for name in ("schema_valid", "class_right", "values_right", "strict")}
    figures = side_figures(1.0, tokens=(200, 300)[seed] if last else 100)
    return figures | {"seed": seed, "scores": {name: sum(h) / 2 for name, h in hits.items()}, "hits": hits}


def test_the_study_of_layers_by_hand(monkeypatch):
    """Last/all 2 and 3, last/trl 4 and 6: medians 2.5 and 5. Rows right by seeds (1, 1/2) against (1, 1): 25 points."""
    jobs = stub(monkeypatch, layers_figures)
    study = layers_study(last=3, rows=7, seeds=2, say=lambda text: None)
    assert (study["speed_ratio"], study["speed_ratio_to_stock"]) == (2.5, 5.0)
    assert study["difference"]["strict"]["mean"] == 25.0 and study["stock"]["tokens"] == 100
    assert [job["last_layers"] for job in jobs if job["kind"] == "layers"] == [0, 3, 3, 0]  # in turn
    assert [(job["side"], job["rows"]) for job in jobs if job["kind"] == "sft"] == [("stock", 7)]


def test_the_study_of_cost_sets_prediction_beside_measurement(monkeypatch):
    stub(monkeypatch, lambda job: {"seconds": 1 if job["side"] == "predicted" else 2, "peak_memory_mb": job["changes"]["rank"]})
    found = cost_study(runs={"a": {"rank": 3}}, say=lambda text: None)
    assert found == [{"run": "a", "predicted_s": 1, "measured_s": 2, "predicted_mb": 3, "measured_mb": 3}]


def made_up_growth():
    points = [{"value": v, "per_second": 10.0 * v, "peak_memory_mb": 500.0, "seconds": 1.0, "held_mb": 400.0} for v in (4, 8)]
    return dict.fromkeys(("rows", "row_tokens", "rank", "micro_tokens"), points)


def made_up_benches(monkeypatch):
    """Ours takes a quarter of the time and half of the memory."""
    outputs, gradients = {"outputs": ["a"]}, {"max_relative_gradient_difference": 1e-6}

    def figures(job):
        if job["side"] == "gradients":
            return gradients
        return side_figures(1.0, memory=5.0) | outputs | {"flops": 5e10} if "ours" in job["side"] else side_figures(4.0) | outputs

    stub(monkeypatch, figures)
    benches = {kind: bench(kind, rounds=1, say=lambda text: None) for kind in SIDES}
    machine_figures = {"cores": 2, "processor": "Some CPU", "memory_gb": 8.0, "torch": "2"}
    return {kind: result | {"machine": result["machine"] | machine_figures} for kind, result in benches.items()}


def test_the_documents_say_what_was_measured(monkeypatch):
    benches = made_up_benches(monkeypatch)
    stub(monkeypatch, layers_figures)
    study = layers_study(last=3, rows=7, seeds=2, say=lambda text: None)
    costs = [{"run": "a", "predicted_s": 110, "measured_s": 100, "predicted_mb": 3, "measured_mb": 4}]
    parts = performance_blocks(benches, made_up_growth(), costs, study)
    assert "| 4.00 | 0.25 | 0.50 | gradients within 1e-06 |" in parts["bench"] and "| 100 % of rows identical |" in parts["bench"]
    assert "training reaches 50 % of the former" in parts["machine"]  # 5e10 in a second, of 100 GFLOP/s
    assert "+10 %" in parts["cost"] and "| rank | 8 | 80 tokens | 500 |" in parts["growth"]
    assert "2.5 × the speed, 5.0 × that of trl" in parts["layers"] and "all checks passed +25.0" not in parts["layers"]
    assert "all checks +25.0" in parts["layers"]
    assert "SFT at 4.0 ×" in speed_block(benches)["speed"] and "4.0 × row by row" in speed_block(benches)["speed"]


def test_the_growth_figure_draws_and_tells_every_point():
    figure = growth_curves(made_up_growth())
    assert len(figure.axes) == 8 and all(list(axes.lines[0].get_xdata()) == [4, 8] for axes in figure.axes)
    assert list(figure.axes[0].lines[0].get_ydata()) == [40, 80] and list(figure.axes[4].lines[0].get_ydata()) == [500, 500]
    assert "LoRA rank 8: 80 a second, 500 MB" in figure.get_label()


def test_the_growth_figure_is_saved_beside_the_others(monkeypatch, tmp_path):
    (tmp_path / "results" / "figures").mkdir(parents=True)
    (tmp_path / "results" / "growth.json").write_text(json.dumps(made_up_growth()))
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "documents", dict)
    readme.main()
    assert (tmp_path / "results" / "figures" / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_lines_of_code_leave_out_what_only_tells(tmp_path):
    (tmp_path / "a.py").write_text(
        '"""Doc\nstring."""\n\n# comment\nx = """not\n# doc"""\n\ndef f():\n    "doc"\n    return x  # tail\n'
    )
    assert readme._code_lines(tmp_path / "a.py") == 4 - 1  # the string's second line looks like a comment


def trained(task, config, out):
    from ftlab.models import load_model
    from ftlab.train import train_sft

    return train_sft(task, load_model("tiny"), config, out, progress=False)


def test_cost_counts_the_steps_and_tokens_of_the_run_it_predicts(tiny, toy_task, tmp_path):
    """More rows than are timed; the last step of a pass is not full."""
    config = sft_config("smoke", epochs=2, train_rows=29, batch_size=4, general_rows=0)
    cost, done = predict_cost(toy_task, tiny, config), trained(toy_task, config, tmp_path / "a")
    assert (cost["steps"], cost["tokens"]) == (16, done["tokens"]) and cost["parts"]["rehearsal"] == 0 < cost["seconds"]


def test_cost_counts_general_rows_within_a_few_per_cent(tiny, toy_task, tmp_path):
    config = sft_config("smoke", train_rows=10, batch_size=4, general_rows=38)
    cost, done = predict_cost(toy_task, tiny, config), trained(toy_task, config, tmp_path / "a")
    assert cost["steps"] == done["steps"] == 12 and cost["tokens"] == pytest.approx(done["tokens"], rel=0.03)


def test_cost_does_a_few_rows_of_the_work_only(tiny, toy_task, monkeypatch):
    from ftlab import cost as module

    seen = {"generate": [], "sft_run": [], "mean_loss": []}
    work = {name: getattr(module, name) for name in seen}

    def generate(loaded, conversations, **options):
        seen["generate"].append((len(conversations), options.get("batch_size")))
        return work["generate"](loaded, conversations, **options)

    def sft_run(*args):
        run, plan = work["sft_run"](*args)
        seen["sft_run"].append(len(run.items))
        return run, plan

    def mean_loss(loss, examples, micro_tokens):
        seen["mean_loss"].append(len(examples))
        return work["mean_loss"](loss, examples, micro_tokens)

    for name, replacement in (("generate", generate), ("sft_run", sft_run), ("mean_loss", mean_loss)):
        monkeypatch.setattr(module, name, replacement)
    monkeypatch.setattr(module, "TIMED_ROWS", 2)
    config = sft_config("smoke", general_rows=40, batch_size=2, eval_batch_size=5, last_layers=1)
    assert predict_cost(toy_task, tiny, config)["parts"]["rehearsal"] > 0
    assert seen == {"generate": [(2, None), (2, 5), (2, 5)], "sft_run": [12], "mean_loss": [2]}
