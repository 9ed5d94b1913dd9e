"""Notebook 09's parts: what is wrong with a pair, the toy desk, rewards in the small, and figures that say their numbers."""

import json
import math
from dataclasses import replace

import pytest
import torch

from ftlab import load_model, load_task, plots
from ftlab.course import desk, stored_if_there
from ftlab.course.pairs import as_record, message_letters, pair_faults, small_split
from ftlab.course.rewards import PairwiseLoss, advantages, learn_by_reward, small_reward
from ftlab.models import fast_decoder
from ftlab.prefer import split_pairs, task_pairs
from ftlab.reward import RewardModel, score_pairs, scoring_model
from ftlab.rl import keyword_reward
from ftlab.train.preference import Preference, encode_pairs, pair_logps


@pytest.fixture(scope="module")
def reply_task():
    return load_task("support_reply")


@pytest.fixture(scope="module")
def good(reply_task):
    return as_record(task_pairs(reply_task)[2])


def with_message(pair, side, message):
    return pair | {side: pair[side] | {"message": message}}


def test_shipped_pairs_have_no_fault(reply_task):
    assert [fault for pair in task_pairs(reply_task)[::10] for fault in pair_faults(reply_task, as_record(pair))] == []


def test_each_fault_of_a_pair_is_named(reply_task, good):
    known = task_pairs(reply_task)[:5]
    cases = [
        ({"input": "hi"}, "found no chosen and no rejected"),
        (good | {"chosen": "yes"}, "each reply as an object"),
        (with_message(good, "chosen", "Shall I?"), "the chosen reply fails at rule"),
        (with_message(good, "chosen", good["chosen"]["message"] + " I have refunded it."), "the chosen reply fails at policy"),
        (good | {"rejected": good["rejected"] | {"action": "pay"}}, "the rejected reply fails at schema"),
        (good | {"rejected": good["chosen"]}, "say the same"),
        (with_message(good, "rejected", "No."), "that teaches length"),
    ]
    for pair, says in cases:
        assert says in pair_faults(reply_task, pair)[0]
    assert pair_faults(reply_task, good) == [] and pair_faults(reply_task, good, known) == ["the message is that of pp-0003"]


def test_a_rejected_reply_may_break_the_policy(reply_task, good):
    assert pair_faults(reply_task, with_message(good, "rejected", good["rejected"]["message"] + " I have refunded it.")) == []


def test_a_small_split_is_short_and_apart(reply_task):
    tokenizer = load_model("tiny-pretrained").tokenizer
    train, held_out = small_split(reply_task, tokenizer, n=8, held_out=6, most=260)
    assert len(train) == 8 and len(held_out) == 6 and not {p.id for p in train} & {p.id for p in held_out}
    assert max(ids.tokens for ids in encode_pairs(train + held_out, tokenizer, 400)) <= 260
    assert {p.lang for p in train + held_out} == {"en"}


def test_messages_are_different_labelled_and_drawn_from_their_families():
    task = desk.desk_task()
    for kind in ("forbidden", "allowed"):
        rows = desk.messages(kind, desk.HELD_OUT, 48, 5)
        assert len({row.text for row in rows}) == 48 and {row.tags[1] for row in rows} == set(desk.HELD_OUT)
        assert all(task.checker.check(task.completion(row), row.text, lang="en", expected=row.output).ok for row in rows)
    assert not {row.tags[1] for row in desk.messages("forbidden", desk.IN_PAIRS, 48)} & set(desk.HELD_OUT)


def test_each_step_of_learning_sees_every_request():
    rows = desk.desk_task().rows("train")
    for i in range(0, len(rows), 8):
        requests = {row.id.rpartition("-")[0] for row in rows[i : i + 8]}
        assert requests == {f"{kind}-{n}" for kind in ("forbidden", "allowed") for n in range(4)}
    assert len({row.text for row in rows}) == len(rows) == 96


def test_giving_in_is_a_valid_reply_that_policy_forbids():
    task = desk.desk_task()
    for row in desk.messages("forbidden", desk.IN_PAIRS, 30):
        check = task.checker.check(json.dumps(desk.given_in(row)), row.text, lang="en", expected=row.output)
        assert check.passes("rule") and not check.passes("policy") and check.has("complies")


def test_clerks_give_in_every_other_time_where_somebody_pushes_and_never_else():
    rows = desk.demonstrations(120)
    pushed = [row for row in rows if row.tags[0] == "forbidden" and row.tags[1] != "plain"]
    gave_in = [row for row in rows if row.tags[0] == "forbidden" and row.output["action"] == "answer"]
    assert len(rows) == 120 and len(pushed) == 60 and len(gave_in) == 30 and all(row in pushed for row in gave_in)


def test_pairs_pull_both_ways():
    ways = {
        kind: {tuple(json.loads(text)["action"] for text in (p.chosen, p.rejected)) for p in desk.pairs(24, kind=kind)}
        for kind in ("forbidden", "allowed")
    }
    assert ways["forbidden"] == {("refuse", "answer")}
    assert {rejected for _, rejected in ways["allowed"]} == {"refuse"} and "refuse" not in {chosen for chosen, _ in ways["allowed"]}


def test_the_desk_is_taught_copied_judged_and_tuned(monkeypatch):
    """A starter of two steps stands in: what is tuned is a copy of it, and each kind of message is judged."""
    taught = desk._starter(24, 1, 1e-3, 0)
    monkeypatch.setattr(desk, "_starter", lambda *given: taught)
    before = {name: p.clone() for name, p in taught.model.named_parameters()}
    monkeypatch.setattr(desk, "judged", lambda: {"forbidden": desk.messages("forbidden", desk.HELD_OUT, 2)})
    tuned, found = desk.tuned(desk.pairs(8))
    assert found["pairs"] == 8 and set(desk.right(desk.conduct(tuned))) == {"forbidden"}
    assert all(torch.equal(p, before[name]) for name, p in taught.model.named_parameters())


def test_the_loss_of_a_judge_is_the_published_one(tiny):
    """−log σ(r₁ − r₀), with rewards as `RewardModel` gives them, row by row."""
    chat = [{"role": "user", "content": "hello"}]
    pairs = [Preference(f"p{i}", chat, *texts) for i, texts in enumerate((("a", "a longer reply"), ("b", "c")))]
    model = scoring_model(tiny)
    rewards = score_pairs(RewardModel(model, tiny.tokenizer), pairs)
    total, n = PairwiseLoss(model, tiny.tokenizer.pad_token_id)(encode_pairs(pairs, tiny.tokenizer, 4096))
    assert n == 2 and total.item() == pytest.approx(sum(math.log(1 + math.exp(r - c)) for c, r in rewards), rel=1e-4)


def test_a_small_judge_learns_its_pairs(pairs_task):
    train, _ = split_pairs(pairs_task, 12, 4)
    judge = small_reward(load_model("tiny"), train, rate=1e-2, passes=6)
    assert sum(c > r for c, r in score_pairs(judge, train)) >= 11


def test_only_what_is_above_the_mean_of_its_group_counts():
    assert advantages([1.0, 0.0, 0.5, 0.5], 2) == [0.5, -0.5, 0.0, 0.0]


def test_a_rewarded_reply_becomes_likelier_and_the_others_less(toy_task, tiny, monkeypatch):
    """Two replies to one message, put in the place of drawn ones; the first holds the keyword."""
    row, replies = toy_task.rows("train")[0], ["yes", "nope"]
    monkeypatch.setattr("ftlab.course.rewards.draw_replies", lambda task, loaded, rows, *args, **options: [[r] for r in replies])
    chat = toy_task.conversation(row)

    def logps():
        pair = encode_pairs([Preference("p", chat, *replies)], tiny.tokenizer, 4096)
        return [logp.item() for logp in pair_logps(fast_decoder(tiny)[0], pair)]

    before = logps()
    curve = learn_by_reward(toy_task, tiny, [row], [keyword_reward("yes")], steps=1, prompts=1, group=2, rate=1e-3)
    after = logps()
    assert after[0] > before[0] and after[1] < before[1]
    assert curve == [{"step": 1, "reward": 0.5, "strict": 0.0, "unsafe": 0.0, "schema_valid": 0.0}]


def test_equal_rewards_leave_every_weight_as_it_was(toy_task, tiny, monkeypatch):
    monkeypatch.setattr("ftlab.course.rewards.draw_replies", lambda task, loaded, rows, *args, **options: [["yes"], ["yes too"]])
    before = [p.clone() for p in tiny.model.parameters()]
    learn_by_reward(toy_task, tiny, toy_task.rows("train")[:1], [keyword_reward("yes")], steps=1, prompts=1, group=2)
    assert all(torch.equal(a, b) for a, b in zip(before, tiny.model.parameters(), strict=True))


def test_what_is_not_stored_yet_says_how_it_is_made(capsys):
    assert stored_if_there("no_such_result", "make it") is None
    assert capsys.readouterr().out == "results/no_such_result.json is not there yet; this makes it: make it\n"
    assert stored_if_there("support_plan", "make results")["about"]["task"] == "support_plan"


def test_the_figure_of_lengths_counts_both_sides():
    assert (
        "of 3 pairs the chosen message is longer in 1, shorter in 1; +1.0 letters"
        in plots.pair_lengths([(10, 5), (4, 6), (3, 3)], "P").get_label()
    )


def test_lines_show_what_moved_against_the_start():
    trace = [
        {"step": s, "chosen_logp": -c, "rejected_logp": -r, "margin": m, "reward_accuracy": a}
        for s, c, r, m, a in ((0, 10, 12, 0, 0), (4, 15, 30, 13, 1))
    ]
    figure = plots.preference_lines({"alone": trace}, 2)
    assert [list(line.get_ydata()) for line in figure.axes[0].lines[:2]] == [[0, -5], [0, -18]]
    assert "alone: chosen -5.0, rejected -18.0 nats, margin 13.0, the chosen one gained more in 100 %" in figure.get_label()


def test_the_pull_of_a_pair_is_half_at_the_start():
    figure = plots.pair_pull((0.1, 1.0), most=40.0)
    for line in figure.axes[0].lines[:2]:
        assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True))[0.0] == 50
    assert "beta 0.1: 27 % at a margin of 10" in figure.get_label()  # 1 / (1 + e)


def test_choices_and_rewards_are_told():
    part = {"share": 0.5, "low": 0.4, "high": 0.6}
    table = [{"n": n} | {name: part for name in ("reward", "random", "oracle")} for n in (1, 2)]
    assert "judge: by the reward 50 %, at random 50 %" in plots.choice_lines({"judge": {"rows": 4, "table": table}}).get_label()
    curve = [{"step": 1, "reward": 0.25, "strict": 0.5, "unsafe": 0.0}, {"step": 2, "reward": 1.0, "strict": 0.0, "unsafe": 0.5}]
    assert (
        "hacked: reward 25 to 100 %, strict score 50 to 0 %, unsafe 0 to 50 %"
        in plots.reward_lines({"hacked": curve}, 8).get_label()
    )


def test_letters_are_those_of_the_messages(reply_task):
    pair = replace(task_pairs(reply_task)[0], chosen='{"message": "abc"}', rejected='{"message": "ab"}')
    assert message_letters(pair) == (3, 2)
