"""Continued pretraining before tuning: equal budgets, the right text in each arm, scores paired by seed and row, stages kept."""

import json
import random
from dataclasses import replace

import pytest

from ftlab import continued_study as study
from ftlab.artifact import write_json
from ftlab.cli import main
from ftlab.continued_study import ALONE, DOMAIN_FIRST, GENERAL_FIRST, STUDIES, continued_study, continued_text, planned_passes
from ftlab.corpus import gather
from ftlab.errors import UsageError
from ftlab.models import load_model
from ftlab.plots.continued import continued_curve, continued_effects
from ftlab.runbook_task import write_task
from ftlab.task import load_task
from ftlab.train.sft import encode_rows

WORDS = "river stone garden letter winter market bridge candle forest window silver morning village harbour table summer".split()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    draw, folder = random.Random(1), tmp_path_factory.mktemp("general")
    for i in range(60):
        (folder / f"{i}.txt").write_text("\n\n".join(" ".join(draw.choices(WORDS, k=30)) + "." for _ in range(5)))
    return folder


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory):
    """(general text, folder, results, what was said)"""
    out, said = tmp_path_factory.mktemp("study"), []
    general = gather(str(text), out / "corpus", progress=False)
    return general, out, continued_study(general, out, profile_name="smoke", say=said.append), said


def test_budgets_are_equal_within_a_tenth_and_counted_from_the_base(finished):
    found = finished[2]
    for arms in found["arms"].values():
        spent = [n for told in arms.values() for n in told["tokens"]]
        assert max(spent) <= 1.1 * min(spent)
        for arm, told in arms.items():
            assert {a - b for a, b in zip(told["tokens"], told["sft_tokens"], strict=True)} == {0 if arm == ALONE else 4096}
        assert arms[ALONE]["passes"][0] > arms[DOMAIN_FIRST]["passes"][0]


def test_each_arm_learns_the_text_it_is_named_for(finished):
    losses = finished[2]["losses"]
    fell = {arm: {name: loss["before"] - loss["after"] for name, loss in texts.items()} for arm, texts in losses.items()}
    assert fell[DOMAIN_FIRST]["domain"] > fell[GENERAL_FIRST]["domain"] + 0.5
    assert fell[GENERAL_FIRST]["general"] > fell[DOMAIN_FIRST]["general"] + 0.2
    assert losses[DOMAIN_FIRST]["domain"]["before"] == losses[GENERAL_FIRST]["domain"]["before"]


def test_effects_on_losses_are_by_hand_those_of_the_arms(finished):
    found = finished[2]
    e, loss = found["effects"]["domain loss, before against after"], found["losses"][DOMAIN_FIRST]["domain"]
    assert e["difference"] == pytest.approx(loss["before"] - loss["after"]) and e["verdict"] == "shown" and len(e["by_seed"]) == 2
    assert set(found["effects"]) >= {
        f"{rows} rows, domain first against {arm}" for rows in (4, 8) for arm in (GENERAL_FIRST, ALONE)
    }
    assert "with 4 rows not shown" in found["verdict"] and found["untuned"]["n"] == 12


def test_a_better_score_counts_for_the_arm_that_has_it():
    draw = random.Random(0)
    low = [[draw.random() * 0.4 for _ in range(60)] for _ in range(3)]
    arms = {
        arm: [{"scores": {study.PRIMARY: [x + gain for x in row]}} for row in low]
        for arm, gain in ((DOMAIN_FIRST, 0.3), (ALONE, 0.0))
    }
    (found,) = study._score_effects(64, arms).values()
    assert found["difference"] == pytest.approx(0.3) and found["verdict"] == "shown"
    few = study._score_effects(
        64, {DOMAIN_FIRST: [{"scores": {study.PRIMARY: [x + 0.06 for x in row]}} for row in low], ALONE: arms[ALONE]}
    )
    assert next(iter(few.values()))["verdict"].startswith("not shown")  # less than a tenth is not worth having


def test_a_finished_stage_is_not_trained_again(finished, monkeypatch):
    general, out, found, said = finished
    for name in ("continued_run", "train_sft", "generate"):
        monkeypatch.setattr(study, name, None)
    again = []
    assert continued_study(general, out, profile_name="smoke", say=again.append) == found
    assert again == said and sum("rows" in line for line in said) == 12


def test_other_settings_are_other_stages(finished, monkeypatch):
    general, out, _, _ = finished
    monkeypatch.setattr(study, "continued_run", None)
    with pytest.raises(TypeError):
        continued_study(general, out, profile_name="smoke", say=lambda _: None, learning_rate=1e-3)


@pytest.mark.parametrize("task", ["write", "read"])
def test_passes_are_planned_before_anything_is_trained(tmp_path, tiny, task):
    config = replace(STUDIES["smoke"], task=task)
    own = load_task(write_task(tmp_path / "t", task, train=8, test=2))
    tokens = sum(len(ids) for ids, _, _ in encode_rows(own, own.rows("train"), tiny.tokenizer, 1024))
    passes = planned_passes(own, tiny.tokenizer, config)
    after = round(10_000 / tokens)
    assert passes[DOMAIN_FIRST, 8] == passes[GENERAL_FIRST, 8] == after and passes[ALONE, 8] == round(
        (4096 + after * tokens) / tokens
    )
    with pytest.raises(
        UsageError, match=r"expected budgets equal within 10%, found .* since passes are whole .* take another --tokens"
    ):
        few = replace(config.before, tokens=max(512, tokens * 3 // 8 // 256 * 256))
        planned_passes(own, tiny.tokenizer, replace(config, rows=(8,), sft_tokens=tokens, before=few))


def test_a_model_that_is_there_is_the_base_and_its_own_size_stays(finished, tmp_path):
    general, out, _, _ = finished
    options = {"profile_name": "smoke", "seeds": 1, "say": lambda _: None}
    with pytest.raises(UsageError, match="--size, --vocabulary: expected none for tiny"):
        continued_study(general, tmp_path, model="tiny", size="0.3M", **options)
    config = study._configured("smoke", {"model": "tiny", "task": "read", "seeds": 1, "sft_tokens": None}, {"tokens": 2048})
    assert config.model == "tiny" and config.decisive()["base"] is None and config.before.tokens == 2048
    stages = study.Stages(general, tmp_path, replace(config, rows=(8,), sft_tokens=30_000), lambda _: None)
    assert stages.model == "tiny" and not (tmp_path / "base").exists()
    assert stages.identity[-1] == load_model("tiny").sha256


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"task": "sing"}, "--task: expected write or read"),
        ({"seeds": 0}, "--seeds: expected 1 or more"),
        ({"profile_name": "gpu"}, "--profile: expected one of smoke, cpu, embedded"),
    ],
)
def test_wrong_use_is_said(finished, tmp_path, given, says):
    with pytest.raises(UsageError, match=says):
        continued_study(finished[0], tmp_path, **{"profile_name": "smoke"} | given)


def test_figures_say_in_words_what_they_draw(finished):
    found = finished[2]
    figure = continued_effects(found)
    assert found["verdict"] in figure.get_label() and "(tuning alone, 8 rows)" in figure.get_label().replace("; ", " (").replace(
        "((", "("
    )
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["4 rows", "8 rows"]
    curve = [{"tokens": 0, "loss": 5.0, "general_loss": 3.0}, {"tokens": 100, "loss": 1.0, "general_loss": 3.5}]
    lineage = {
        "training": {"curve": curve, "tokens": 100}, "losses": study.before_after(curve), "corpus_name": "runbook",
        "general_name": "packages", "config": {"general_share": 0.2}, "base": {"model": "tiny"},
    }  # fmt: skip
    assert "domain text from 5.00 to 1.00" in continued_curve(lineage).get_label()


def test_the_text_names_every_arm_with_its_interval(finished):
    said = continued_text(finished[2])
    for arm in (DOMAIN_FIRST, GENERAL_FIRST, ALONE):
        assert f"8 rows, {arm}: parts " in said
    assert "right form without tuning: " in said and finished[2]["verdict"] in said


def test_the_command_writes_results_and_figure(text, finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "ftlab.continued_study.continued_study", lambda *args, **options: finished[2] | {"options": sorted(options)}
    )
    arguments = [
        "pretrain-study",
        "continued",
        "--corpus",
        str(text),
        "--profile",
        "smoke",
        "--model",
        "tiny",
        "--out",
        str(tmp_path / "s"),
    ]
    assert main([*arguments, "--json", str(tmp_path / "r.json"), "--figures", str(tmp_path / "f")]) == 0
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["effects"] == json.loads(json.dumps(finished[2]["effects"])) and "model" in written["options"]
    assert (tmp_path / "f" / "continued.png").stat().st_size > 5000 and finished[2]["verdict"] in capsys.readouterr().out
    write_json(tmp_path / "again.json", finished[2])
    assert main([*arguments[:1], "fill", *arguments[2:]]) == 2
    assert "--model: expected the study continued, found fill" in capsys.readouterr().err
