"""Studies of pretraining: equal compute, the right arms, a law that is found again, a bill by hand."""

import json
import math
import random
from dataclasses import replace

import pytest

from ftlab import pretrain_study as study
from ftlab.cli import main
from ftlab.corpus import gather
from ftlab.errors import UsageError
from ftlab.stats import crossed_bootstrap
from ftlab.train.kept import begun

WORDS = "river stone garden letter winter market bridge candle forest window silver morning village harbour table summer".split()
OTHERS = "engine signal copper voltage circuit magnet current battery filament switch relay socket lamp motor wire coil".split()
TINY = {"tokens": 2048, "block_tokens": 32, "vocabulary": 300}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Two sources of different words, the first the larger."""
    draw, folder = random.Random(1), tmp_path_factory.mktemp("text")
    for name, words, n in (("nature", WORDS, 60), ("parts", OTHERS, 40)):
        (folder / name).mkdir()
        for i in range(n):
            (folder / name / f"{i}.txt").write_text("\n\n".join(" ".join(draw.choices(words, k=30)) + "." for _ in range(5)))
    return folder


@pytest.fixture(scope="module")
def bench(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    config = replace(study.STUDY_PROFILES["smoke"], batch_blocks=8, held_out_blocks=6, **TINY)
    return study.Bench(gather(str(text), out / "corpus", progress=False), out, config, lambda _: None)


def law_points(noise=0.0):
    draw = random.Random(0)
    true = (2.0, 300.0, 0.4, 900.0, 0.35)
    return true, [
        {"parameters": n, "tokens": d, "loss": study.law_loss(true, n, d) * math.exp(draw.gauss(0, noise))}
        for n in (1e5, 3e5, 7e5, 1.5e6)
        for d in (1e5, 2e5, 4e5, 8e5)
    ]


def test_the_bootstrap_over_runs_and_rows_covers_the_mean_and_needs_equal_runs():
    draw = random.Random(0)
    gains = [[draw.gauss(1, 1) for _ in range(200)] for _ in range(4)]
    low, high = crossed_bootstrap(gains)
    assert low < 1 < high and high - low < 0.5
    assert crossed_bootstrap([[0.5, 0.5]]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="expected runs of equal length"):
        crossed_bootstrap([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("gain", "expected"),
    [(0.2, "shown"), (-0.2, "the other way round"), (0.0, "not shown: no effect worth having")],
)
def test_an_effect_is_judged_by_size_interval_and_seeds(gain, expected):
    draw = random.Random(0)
    better = [[draw.gauss(3, 0.02) for _ in range(100)] for _ in range(3)]
    found = study.effect([[x + gain for x in row] for row in better], better)
    assert found["difference"] == pytest.approx(gain)
    assert found["verdict"] == expected


def test_trainings_that_differ_by_luck_alone_are_rarely_called_an_effect():
    """An A/A comparison: both arms are the same, and only each training's luck moves all its losses."""
    draw, shown = random.Random(1), 0
    for _ in range(100):
        blocks = [draw.gauss(4, 0.5) for _ in range(30)]
        arms = [[[x + luck for x in blocks] for luck in (draw.gauss(0, 0.1) for _ in range(3))] for _ in range(2)]
        shown += study.effect(*arms)["verdict"] in ("shown", "the other way round")
    assert shown <= 8  # 5 of a hundred are expected


def test_one_seed_that_points_elsewhere_forbids_a_verdict():
    assert study.verdict(0.3, 0.1, 0.5, [0.5, 0.5, -0.1]) == "not shown: too small to tell"


def test_arms_of_amount_have_equal_compute_and_the_small_one_repeats(bench):
    found = study.amount_study(bench, seeds=2)
    small, large = found["arms"]["small"][0], found["arms"]["large"][0]
    assert small["tokens"] == large["tokens"] == 2048
    assert small["passes"] > 10 * large["passes"]
    assert len(found["effects"]["all held-out text"]["by_seed"]) == 2
    by_hand = [s["loss"] - b["loss"] for s, b in zip(found["arms"]["small"], found["arms"]["large"], strict=True)]
    assert found["effects"]["all held-out text"]["by_seed"] == pytest.approx(by_hand)


def test_a_finished_arm_is_not_trained_again(bench, monkeypatch):
    first = study.amount_study(bench, seeds=1)
    monkeypatch.setattr(study, "pretrain_on", None)
    assert study.amount_study(bench, seeds=1) == first


def test_an_arm_that_was_begun_on_other_text_is_begun_anew(bench, monkeypatch):
    config = replace(bench.config, seed=7)

    def stopped(self, *args, **options):
        self.save()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ftlab.train.pretrain.Pretraining.train", stopped)
        with pytest.raises(KeyboardInterrupt):
            bench.arm("large", bench.all, config)
    other = replace(bench.all, train=bench.all.train[: len(bench.all.train) // 2])
    assert bench.arm("large", other, config).summary["tokens"] == 2048


def test_what_was_begun_under_another_key_is_not_gone_on_with(tmp_path):
    assert [begun(tmp_path / "arm", key) for key in ("a", "a", "b", "b", "a")] == [False, True, False, True, False]


def test_noise_spoils_words_of_training_text_only(bench):
    text = " ".join(WORDS * 20)
    spoilt = study.spoil(text, 0.3)
    assert spoilt == study.spoil(text, 0.3)
    changed = sum(a != b for a, b in zip(text.split(), spoilt.split(), strict=True)) / (len(WORDS) * 20)
    assert 0.2 < changed < 0.4
    found = study.noise_study(bench, seeds=1)
    assert set(found["arms"]) == {"noisy", "clean"}
    held_out = (bench.out / "noisy-text" / "held_out.bin").read_bytes()
    assert held_out == (bench.out / "text" / "held_out.bin").read_bytes()
    assert (bench.out / "noisy-text" / "train.bin").read_bytes() != (bench.out / "text" / "train.bin").read_bytes()


def test_diversity_measures_both_sides_with_equal_text(bench):
    found = study.diversity_study(bench, seeds=1)
    assert found["narrow_source"] == "nature"
    assert set(found["effects"]) == {"all held-out text", "same source", "other sources"}
    assert found["arms"]["narrow"][0]["passes"] == pytest.approx(found["arms"]["diverse"][0]["passes"], rel=0.1)


def test_a_narrow_model_is_worse_on_other_sources(bench):
    longer = study.Bench(bench.corpus, bench.out / "longer", replace(bench.config, tokens=16_384), lambda _: None)
    effects = study.diversity_study(longer, seeds=1)["effects"]
    assert effects["other sources"]["low"] > 0
    assert effects["other sources"]["difference"] > effects["same source"]["difference"]


def test_diversity_needs_two_sources(text, tmp_path):
    corpus = gather(str(text / "nature"), tmp_path / "c", progress=False)
    alone = study.Bench(corpus, tmp_path / "s", replace(study.STUDY_PROFILES["smoke"], batch_blocks=8, **TINY), lambda _: None)
    with pytest.raises(UsageError, match="expected a corpus of two sources"):
        study.diversity_study(alone, seeds=1)


def test_filling_gaps_asks_all_three_models_the_same(bench):
    found = study.fill_study(bench, seeds=1)
    assert set(found["arms"]) == set(study.OBJECTIVES)
    assert len({arm[0]["tokens"] for arm in found["arms"].values()}) == 1
    assert set(found["effects"]) == {"gap, fill-in-the-middle", "gap, masked", "plain text, fill-in-the-middle"}
    assert all(0 <= arm[0]["gap_right"] <= 1 for arm in found["arms"].values())


def test_the_law_is_found_again_in_its_own_points():
    true, points = law_points()
    law = study.fit_law(points, rounds=5)
    assert law["error"] < 0.002
    for n, d in ((2e5, 3e5), (3e6, 2e6)):
        found = study.law_loss([law[name]["value"] for name in ("floor", "A", "a", "B", "b")], n, d)
        assert found == pytest.approx(study.law_loss(true, n, d), rel=0.02)
    assert law["optimal_exponent"]["value"] == pytest.approx(0.35 / 0.75, abs=0.1)


def test_noise_widens_the_interval_of_the_law():
    widths = []
    for noise in (0.001, 0.02):
        law = study.fit_law(law_points(noise)[1], rounds=30)
        widths.append(law["a"]["high"] - law["a"]["low"])
        assert law["a"]["low"] <= law["a"]["value"] <= law["a"]["high"]
    assert widths[0] < widths[1]


def test_too_few_points_are_refused():
    with pytest.raises(UsageError, match="expected six points"):
        study.fit_law(law_points()[1][:4])


def test_the_bill_is_six_times_parameters_times_tokens():
    rows = study.bill(here=1e11)
    small = rows[0]
    assert (small["model"], small["tokens"]) == ("135M", 2.7e9)
    assert small["flops"] == pytest.approx(6 * 135e6 * 2.7e9)
    assert small["hours"]["this machine"] == pytest.approx(6 * 135e6 * 2.7e9 / 1e11 / 3600)
    assert small["hours"]["one GPU"] == pytest.approx(1024 * small["hours"]["1024 GPUs"])
    assert {row["model"] for row in rows} == {"135M", "7B", "70B"}


def test_the_command_writes_points_law_and_bill(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(study.SCALES, "smoke", (("0.1M", "0.3M"), (1024, 2048, 4096)))
    arguments = ["pretrain-study", "scaling", "--corpus", str(text), "--profile", "smoke", "--block-tokens", "32"]
    places = ["--out", str(tmp_path / "s"), "--json", str(tmp_path / "r.json"), "--figures", str(tmp_path / "f")]
    assert main([*arguments, *places]) == 0
    assert (tmp_path / "f" / "scaling.png").exists()
    found = json.loads((tmp_path / "r.json").read_text())["scaling"]
    assert len(found["points"]) == 6 and len(found["bill"]) == 6
    assert set(found["predicted_loss"]) == set(study.MODELS)
    assert "70B" in capsys.readouterr().out


def test_figures_say_in_words_what_they_draw(bench):
    from ftlab.plots.pretraining import effects

    results = {"amount": study.amount_study(bench, seeds=2)}
    figure = effects(results)
    found = results["amount"]["effects"]["all held-out text"]
    assert f"{found['difference']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})" in figure.get_label()
    assert len(figure.axes[0].get_yticklabels()) == 1


def test_an_unknown_study_is_wrong_use(bench, tmp_path):
    with pytest.raises(UsageError, match="expected one of amount"):
        study.pretrain_study("magic", bench.corpus, tmp_path)
