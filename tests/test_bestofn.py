"""Drawn replies and the choice among them: the same for the same seed, and every figure by hand."""

import math
from itertools import combinations

import pytest
import torch

from ftlab.bestofn import best_of_n, choice_table, chosen_passes, draw_replies, table_text
from ftlab.errors import DataError, UsageError
from ftlab.generate import generate
from ftlab.sample import DrawnChoice, Sampling

CHATS = [[{"role": "user", "content": text}] for text in ("hello", "a longer one", "hello")]


def texts(loaded, chats=CHATS, **options):
    return [a.text for a in generate(loaded, chats, max_new_tokens=6, **options)]


def test_tokens_are_drawn_by_the_models_probabilities():
    """Logits of log 3 and 0 give 3/4 and 1/4 at temperature 1, 9/10 and 1/10 at temperature 1/2."""
    logits = torch.tensor([[math.log(3), 0.0]])
    for temperature, expected in ((1.0, 0.75), (0.5, 0.9)):
        choice = DrawnChoice(Sampling(temperature), [0])
        drawn = [choice([0], logits)[0] for _ in range(2000)]
        assert drawn.count(0) / 2000 == pytest.approx(expected, abs=0.03)


def test_a_seed_decides_the_draws_and_neighbours_do_not(tiny):
    first = texts(tiny, sampling=Sampling(seed=1))
    assert texts(tiny, sampling=Sampling(seed=1)) == first != texts(tiny, sampling=Sampling(seed=2))
    assert texts(tiny, sampling=Sampling(seed=1), batch_size=1) == first
    assert first[0] != first[2]  # one chat, two places, two answers
    assert texts(tiny)[0] == texts(tiny)[2]


def test_a_low_temperature_comes_down_to_the_greedy_answer(tiny):
    assert texts(tiny, sampling=Sampling(1e-4)) == texts(tiny)


def test_the_slower_path_draws_too(tiny):
    from test_preference import other_architecture

    tiny.model = other_architecture()
    drawn = texts(tiny, sampling=Sampling(seed=3))
    assert texts(tiny, sampling=Sampling(seed=3)) == drawn != texts(tiny)


def test_what_cannot_be_drawn_is_refused(tiny):
    from ftlab.constrain import CopyRules

    for temperature in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="--temperature: expected a number above 0"):
            Sampling(temperature)
    with pytest.raises(UsageError, match="expected greedy answers, found a temperature"):
        generate(tiny, CHATS, sampling=Sampling(), copies=CopyRules(()) if CopyRules(()) else CopyRules((("a", ()),)))
    with pytest.raises(UsageError, match="chooses every token itself"):
        generate(tiny, CHATS, sampling=Sampling(), engine="ctranslate2")


def test_the_share_of_right_choices_is_the_mean_over_all_ways_to_take_n():
    """Against trying all of them, with a tie between the second and the third reply."""
    hits, rewards = [True, False, True, False], [0.3, 0.9, 0.9, 0.1]
    for n in (1, 2, 3, 4):
        ways = list(combinations(range(4), n))
        expected = sum(hits[max(way, key=lambda i: (rewards[i], -i))] for way in ways) / len(ways)
        assert chosen_passes(hits, rewards, n) == pytest.approx(expected)


def test_the_table_holds_random_choice_below_the_oracle():
    """One row, two of four replies pass and the reward likes them best: random 1/2; from two replies the oracle fails in 1 way of 6."""
    table = choice_table([([True, True, False, False], [4.0, 3.0, 2.0, 1.0])])
    assert [at["n"] for at in table] == [1, 2, 3, 4] and {at["random"]["share"] for at in table} == {0.5}
    assert table[1]["oracle"]["share"] == table[1]["reward"]["share"] == pytest.approx(5 / 6, abs=1e-4)
    assert table[3]["oracle"]["share"] == 1 and table[0]["reward"]["share"] == 0.5


def test_a_reward_that_knows_the_answer_is_the_oracle_and_one_that_knows_nothing_is_refused(toy_task, tiny, monkeypatch):
    """Replies are put in place of drawn ones: right, wrong, right, wrong for each of two rows; the greedy ones are wrong."""
    rows = toy_task.rows("train")[:2]
    wrong = "{}"

    def answers(loaded, chats, *, max_new_tokens, sampling=None, progress=None):
        drawn = [toy_task.completion(rows[i // 4]) if i % 2 == 0 else wrong for i in range(len(chats))]
        return [type("Answer", (), {"text": text}) for text in (drawn if sampling else [wrong] * len(chats))]

    monkeypatch.setattr("ftlab.bestofn.generate", answers)
    found = best_of_n(toy_task, tiny, rows, lambda chats, replies: [len(r) for r in replies], n=4)
    assert [at["reward"]["share"] for at in found["table"]] == [at["oracle"]["share"] for at in found["table"]]
    assert found["table"][-1]["reward"]["share"] == 1 and found["greedy"]["k"] == 0 and found["against_greedy"]["gained"] == 2
    assert found["distinct"] == 0.5 and table_text(found).splitlines()[4].startswith(" 4  100.0")
    with pytest.raises(DataError, match="tell replies apart"):
        best_of_n(toy_task, tiny, rows, lambda chats, replies: [1.0] * len(replies), n=4)


def test_fewer_than_one_reply_is_refused(toy_task, tiny):
    with pytest.raises(UsageError, match="--n: expected at least 1"):
        draw_replies(toy_task, tiny, toy_task.rows("train")[:1], 0, Sampling())
