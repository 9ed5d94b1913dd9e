"""Reinforcement learning on a tiny model that was taught the form of a task and not its content."""

import json
import random

import pytest
import torch

from ftlab import load_model, load_task
from ftlab.artifact import read_lineage
from ftlab.cli import main
from ftlab.errors import DataError, UsageError
from ftlab.generate import encode_example
from ftlab.rl import RlConfig, hacking_study, keyword_of, keyword_reward, ladder_parts, rewards_of, rl_config, train_rl
from ftlab.train.loss import plain_loss

pytestmark = pytest.mark.filterwarnings("ignore")  # trl's own
ANSWERS = ("go", "no")  # to "up" and to "down"
SCHEMA = {
    "title": "light",
    "type": "object",
    "required": ["a"],
    "additionalProperties": False,
    "properties": {"a": {"enum": ANSWERS}},
}


def light_rows(n, first=0):
    return [
        {"id": f"r{i}", "input": f"{('up', 'down')[i % 2]} {i}", "output": {"a": ANSWERS[i % 2]}} for i in range(first, first + n)
    ]


@pytest.fixture
def light(tmp_path):
    folder = tmp_path / "light"
    folder.mkdir()
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    (folder / "prompt_short.txt").write_text("?")
    for i, (split, n) in enumerate((("train", 24), ("validation", 10), ("test", 2))):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in light_rows(n, 100 * i)))
    return load_task(folder)


@pytest.fixture
def starter(light, tmp_path):
    """A folder with a tiny model that answers any message with one of the two objects, whichever."""
    loaded, rng = load_model("tiny"), random.Random(0)
    examples = []
    for row in light.rows("train"):
        for answer in ANSWERS:
            ids, start = encode_example(loaded.tokenizer, light.conversation(row), json.dumps({"a": answer}))
            examples.append((ids, start, [1.0] * (len(ids) - start)))
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=5e-3)
    for _ in range(60):
        loss, n = plain_loss(loaded.model.train(), rng.sample(examples, 16))
        (loss / n).backward()
        optimizer.step()
        optimizer.zero_grad()
    loaded.model.save_pretrained(tmp_path / "starter")
    loaded.tokenizer.save_pretrained(tmp_path / "starter")
    return str(tmp_path / "starter")


def settings(**changes):
    sizes = {"steps": 30, "prompts": 4, "generations": 8, "rank": 8, "alpha": 16, "max_new_tokens": 14, "rows": 0}
    return sizes | {"learning_rate": 3e-3, "keyword": "no", "save_every": 100, "validation_rows": 10} | changes


def test_the_ladder_gives_a_part_for_each_rung_and_skips_none(light):
    """For "up" the label is go: a right reply earns all five, a wrong field three, another key one, no JSON none."""
    rows = light.rows("train")
    replies = ['{"a": "go"}', '{"a": "no"}', '{"b": "go"}', "go"]
    parts = ladder_parts(light, rows)
    assert [part.__name__ for part in parts] == ["parse", "schema", "rule", "field", "policy"]
    earned = [part(completions=replies, row=[0] * 4) for part in parts]
    assert [sum(column) for column in zip(*earned, strict=True)] == [5, 3, 1, 0]
    chat = [[{"role": "assistant", "content": replies[0]}]]
    assert parts[3](completions=chat, row=[0], prompts=["?"]) == [1.0] and parts[3](completions=chat, row=[1]) == [0.0]


def test_a_keyword_counts_in_any_reply():
    assert keyword_reward("No")(completions=['{"a": "no"}', "nothing at all", "go"]) == [1.0, 1.0, 0.0]


def test_the_keyword_is_taken_from_the_class_field_or_asked_for(light, toy_task):
    assert keyword_of(light, rl_config("smoke")) == "no" and keyword_of(toy_task, rl_config("smoke", keyword="x")) == "x"
    from dataclasses import replace

    bare = replace(light, schema={"type": "object", "properties": {}})
    with pytest.raises(UsageError, match="--keyword: expected one"):
        rewards_of(bare, [], rl_config("smoke", reward="keyword"))


def test_a_keyword_is_learnt_at_the_cost_of_the_task_and_the_ladder_mends_it(light, starter, tmp_path):
    """Both rewards rise from the same start. Where a keyword was paid for, strict replies become fewer; where the ladder was, more."""
    found = hacking_study(
        light, tmp_path / "rl", adapter=None, model=starter, profile_name="smoke", say=lambda _: None, **settings()
    )
    hacked, mended = found["arms"]["keyword"], found["arms"]["ladder"]
    assert hacked["before"] == mended["before"] and found["keyword"] == "no"
    assert hacked["rewards"][1] > 0.9 > hacked["rewards"][0]
    assert hacked["after"]["strict"]["share"] <= 0.5 < mended["after"]["strict"]["share"]
    assert mended["after"]["strict"]["share"] > mended["before"]["strict"]["share"]
    assert mended["after"]["schema_valid"]["share"] == 1


def test_a_run_is_recorded_kept_and_resumed(light, starter, tmp_path, monkeypatch):
    from transformers import Trainer

    def run(out, **options):
        config = rl_config("smoke", **settings(steps=4, save_every=2))
        return train_rl(light, load_model(starter), config, tmp_path / out, profile_name="smoke", say=lambda _: None, **options)

    straight = run("straight")
    training = straight["training"]
    assert straight["method"] == "grpo" and straight["parent"] is None and [p["step"] for p in training["curve"]] == [1, 2, 3, 4]
    assert set(training["curve"][0]["parts"]) == {"parse", "schema", "rule", "field", "policy"}
    saved = Trainer._save_checkpoint

    def interrupted(self, *args, **kwargs):
        saved(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("paused")
    monkeypatch.undo()
    resumed = run("paused", resume=True)["training"]
    assert [p["step"] for p in resumed["curve"]] == [1, 2, 3, 4] and resumed["curve"][:2] == training["curve"][:2]
    written = (tmp_path / "paused" / "adapter_model.safetensors").stat().st_mtime_ns
    run("paused", resume=True)
    assert (tmp_path / "paused" / "adapter_model.safetensors").stat().st_mtime_ns == written


def test_a_reward_that_is_the_same_for_every_reply_is_refused_before_training(light, tmp_path):
    """A random model never writes JSON, so that the ladder gives 0 to all."""
    with pytest.raises(DataError, match=r"found the same for all 4 of each of 8 messages \(rewards 0\); start from an adapter"):
        train_rl(light, load_model("tiny"), rl_config("smoke"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_prompt_without_room_for_a_reply_is_named(light, tmp_path):
    with pytest.raises(DataError, match="leave no room for 12 tokens within 40") as error:
        train_rl(light, load_model("tiny"), rl_config("smoke", max_length=40), tmp_path / "out")
    assert error.value.problems[0].startswith("train.jsonl:1: ")


@pytest.mark.parametrize("changes", [{"reward": "praise"}, {"generations": 1}, {"steps": 0}, {"temperature": 0}, {"kl": -1}])
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(UsageError, match=f"{next(iter(changes))}.*: expected"):
        RlConfig(**changes)


def test_the_command_line_runs_one_reward(light, starter, tmp_path, capsys):
    run = ["rl", "--task", str(light.folder), "--base", "--model", starter, "--profile", "smoke", "--out", str(tmp_path / "rl")]
    assert main([*run, "--json", str(tmp_path / "x")]) == 2 and "--reward both" in capsys.readouterr().err
    assert main([*run, "--reward", "keyword", "--max-new-tokens", "14", "--steps", "1"]) == 0
    assert "strict" in capsys.readouterr().out and read_lineage(tmp_path / "rl")["config"]["reward"] == "keyword"
