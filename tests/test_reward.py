"""The reward model on the tiny model: its number is the head on the last token, its report tells a reward from a ruler."""

import json
import math

import pytest
import torch

from ftlab.artifact import apply_adapter
from ftlab.cli import main
from ftlab.errors import DataError, UsageError
from ftlab.generate import encode_example
from ftlab.models import load_model
from ftlab.prefer import PAIRS_TEST, task_pairs
from ftlab.reward import (
    RewardConfig,
    RewardModel,
    length_rule,
    load_reward,
    reward_config,
    reward_report,
    score_pairs,
    scoring_model,
    train_reward,
    word_choice,
)
from ftlab.train.preference import Preference
from ftlab.trl_runs import CHECKPOINTS

pytestmark = pytest.mark.filterwarnings("ignore")  # trl's own


def settings(**changes):
    return reward_config("smoke", **({"learning_rate": 1e-2, "rank": 4, "alpha": 8, "epochs": 3, "max_length": 512} | changes))


def train(task, out, **options):
    given = {"profile_name": "smoke", "say": lambda _: None} | options
    return train_reward(task, load_model("tiny"), given.pop("config", settings()), out, **given)


@pytest.fixture
def trained(pairs_task, tmp_path):
    return train(pairs_task, tmp_path / "reward")


def pair(chosen, rejected, i=0):
    return Preference(f"p{i}", [{"role": "user", "content": "hello"}], chosen, rejected)


def test_the_reward_is_the_head_on_the_state_of_the_last_token_whatever_stands_beside_it(tiny):
    """Against transformers' own states, row by row without padding."""
    chats = [[{"role": "user", "content": "hello"}]] * 3
    replies = ["a", "a longer reply", "b"]
    expected, reward = [], RewardModel(scoring_model(tiny), tiny.tokenizer)
    for chat, reply in zip(chats, replies, strict=True):
        ids, _ = encode_example(tiny.tokenizer, chat, reply)
        state = tiny.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        expected.append((reward.model.score.weight[0] @ state).item())
    assert reward.score(chats, replies, batch_size=2) == pytest.approx(expected, rel=1e-4)
    assert len(set(expected)) == 3


def test_training_tells_pairs_apart_and_what_is_stored_scores_as_it_did(pairs_task, trained, tmp_path):
    curve = trained["training"]["curve"]
    assert trained["method"] == "reward" and trained["parent"] is None and trained["training"]["steps"] == 6
    assert curve[0]["loss"] == pytest.approx(math.log(2), abs=0.05) and curve[-1]["loss"] < curve[0]["loss"]
    assert {"accuracy", "validation_accuracy", "validation_margin"} <= set(curve[-1])
    assert not (tmp_path / "reward" / CHECKPOINTS).exists()
    pairs = task_pairs(pairs_task, PAIRS_TEST)
    once, again = (score_pairs(load_reward(load_model("tiny"), tmp_path / "reward"), pairs) for _ in range(2))
    assert once == again and sum(c > r for c, r in once) > len(once) / 2


def test_a_resumed_training_ends_where_a_straight_one_does(pairs_task, tmp_path, monkeypatch):
    from transformers import Trainer

    straight = train(pairs_task, tmp_path / "straight")["training"]
    saved = Trainer._save_checkpoint

    def interrupted(self, *args, **kwargs):
        saved(self, *args, **kwargs)
        if self.state.global_step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(pairs_task, tmp_path / "paused")
    monkeypatch.undo()
    with pytest.raises(DataError, match="made with other config"):
        train(pairs_task, tmp_path / "paused", config=settings(learning_rate=1e-3), resume=True)
    resumed = train(pairs_task, tmp_path / "paused", resume=True)["training"]
    assert [p["loss"] for p in resumed["curve"]] == pytest.approx([p["loss"] for p in straight["curve"]], rel=1e-4)


def test_an_adapter_to_start_from_is_part_of_the_reward_model(pairs_task, tmp_path):
    from test_prefer import tune

    tune(pairs_task, tmp_path / "parent")
    train(pairs_task, tmp_path / "reward", adapter=tmp_path / "parent")
    with pytest.raises(UsageError, match="was trained on adapter .*found no adapter"):
        load_reward(load_model("tiny"), tmp_path / "reward")
    reward = load_reward(load_model("tiny"), tmp_path / "reward", adapter=tmp_path / "parent")
    merged = load_model("tiny")
    apply_adapter(merged, tmp_path / "parent")
    with pytest.raises(UsageError, match="expected an adapter that writes replies"):
        apply_adapter(load_model("tiny"), tmp_path / "reward")
    with pytest.raises(UsageError, match="expected a reward model"):
        load_reward(load_model("tiny"), tmp_path / "parent")
    assert len(score_pairs(reward, task_pairs(pairs_task, PAIRS_TEST))) == 8


def test_a_reward_that_is_the_length_is_found_out():
    """Four pairs, the longer reply chosen in three: a ruler is right in these and its correlation with length is 1."""
    pairs = [pair("aaaa", "aa", 0), pair("aaaaa", "a", 1), pair("a", "aaa", 2), pair("aaa", "aa", 3)]
    report = reward_report(pairs, [(len(p.chosen), len(p.rejected)) for p in pairs], pairs)
    length = report["length"]
    assert length["correlation"] == pytest.approx(1) and length["margin_correlation"] == pytest.approx(1)
    assert report["accuracy"]["k"] == length["baseline"]["accuracy"]["k"] == 3 and length["baseline"]["says"].startswith(
        "the longer"
    )
    assert length["accuracy_chosen_shorter"]["share"] == 0 and length["accuracy_chosen_longer"]["share"] == 1
    assert length["baseline"]["against_it"] == {"gained": 0, "lost": 0, "n": 4, "difference": 0.0, "p": 1.0}


def test_stated_confidence_is_that_of_the_preferred_reply():
    """Margins of log 3 and −log 3: σ is 3/4 for the reply preferred, which is the chosen one once in two; Brier by hand."""
    pairs = [pair("ab", "a", 0), pair("a", "ab", 1)]
    calibration = reward_report(pairs, [(math.log(3), 0.0), (0.0, math.log(3))], pairs)["calibration"]
    assert calibration["brier"] == pytest.approx((0.25**2 + 0.75**2) / 2) and calibration["base_rate"] == 0.5


def test_a_tie_is_a_miss_and_the_longer_rule_needs_a_longer_reply():
    pairs = [pair("ab", "cd"), pair("abc", "d")]
    assert length_rule(pairs, pairs) == ("longer", [False, True])
    assert reward_report(pairs, [(1.0, 1.0), (2.0, 1.0)], pairs)["accuracy"]["k"] == 1


def test_words_alone_are_learnt_where_words_alone_decide():
    train_pairs = [pair(f"please wait {i}", f"done already {i}", i) for i in range(6)]
    assert word_choice(train_pairs, [pair("wait", "done"), pair("done", "wait")]) == [True, False]


def test_a_reward_that_is_constant_is_refused(tiny):
    model = scoring_model(tiny)
    torch.nn.init.zeros_(model.score.weight)
    with pytest.raises(DataError, match="tell replies apart, found 0 for all 4"):
        score_pairs(RewardModel(model, tiny.tokenizer), [pair("a", "b"), pair("c", "d")])


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"last_layers": -1}, {"warmup": 1.0}, {"learning_rate": float("nan")}])
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(UsageError, match=f"^{next(iter(changes))}: expected"):
        RewardConfig(**changes)


def test_the_command_line_trains_judges_and_scores(pairs_folder, tmp_path, capsys):
    out, task = str(tmp_path / "reward"), ["--task", str(pairs_folder), "--base"]
    assert main(["reward", "train", *task, "--profile", "smoke", "--out", out, "--max-length", "512"]) == 0
    assert main(["reward", "score", out, *task, "--split", "test", "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["n"] == 8
    rows = [{"id": "a", "input": "hi", "output": "{}"}, {"id": "b", "input": "hi", "output": "no"}]
    (tmp_path / "o.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    capsys.readouterr()
    assert main(["reward", "score", out, str(tmp_path / "o.jsonl"), *task, "--json", str(tmp_path / "s.jsonl")]) == 0
    scored = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [r["id"] for r in scored] == ["a", "b"] and scored[0]["reward"] != scored[1]["reward"]
    best = ["reward", "best-of-n", out, *task, "--n", "2", "--rows", "3", "--max-new-tokens", "4"]
    assert main(best) == 0 and "by the reward" in capsys.readouterr().out
