"""General prompts: each part of a check can pass and fail, and an answer in the task's form never passes."""

import json
from pathlib import Path

import pytest

from ftlab.errors import DataError
from ftlab.regress import general_prompts, passes, regression
from ftlab.task import DATA
from ftlab.train.rehearsal import rehearsal_prompts


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ({"any": ["Paris"]}, "It is PARIS.", "It is Rome."),
        ({"any_cased": ["GOOD"]}, "GOOD", "good"),
        ({"none": ["I cannot"]}, "Pull them out.", "Sorry, i cannot."),
        ({"min_any": [2, ["red", "blue", "green"]]}, "Red and blue.", "Red, red."),
        ({"regex": r"\b4\b"}, "= 4", "= 44"),
        ({"min_words": 3}, "one two three", "one two"),
        ({"max_words": 1}, "OK", "OK then"),
        ({"prose": True}, "plain words", '{"intent": "x"}'),
        ({"prose": True}, "plain words", '{"intent": cut off'),
        ({"any": ["a"], "max_words": 2}, "a b", "a b c"),
        ({"min_words": 0}, "x", "  "),
    ],
)
def test_each_part_can_pass_and_fail(check, good, bad):
    assert passes(check, good) and not passes(check, bad)


def test_there_are_enough_prompts_with_their_own_ids():
    prompts = general_prompts()
    assert len(prompts) >= 200 and len({p.id for p in prompts}) == len({p.input for p in prompts}) == len(prompts)


def test_no_prompt_is_passed_by_nothing_or_by_json():
    for prompt in general_prompts():
        assert not passes(prompt.check, "") and not passes(prompt.check, '{"entities": {}}'), prompt.id


def test_each_check_tells_a_right_answer_from_a_wrong_one():
    checks = {p.id: p.check for p in general_prompts()}
    answers = [
        json.loads(line) for line in (Path(__file__).parent / "general_answers.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(answers) >= 150
    for a in answers:
        assert passes(checks[a["id"]], a["right"]) and not passes(checks[a["id"]], a["wrong"]), a["id"]


def test_no_prompt_of_the_suite_is_trained_on():
    trained = {text.casefold().strip() for text in rehearsal_prompts(260)}
    assert not trained & {p.input.casefold().strip() for p in general_prompts()}


def test_a_changed_suite_is_refused(tmp_path, monkeypatch):
    (tmp_path / "general").mkdir()
    for name, more in (("prompts.jsonl", b"\n"), ("prompts.sha256", b"")):
        (tmp_path / "general" / name).write_bytes((DATA / "general" / name).read_bytes() + more)
    monkeypatch.setattr("ftlab.regress.DATA", tmp_path)
    with pytest.raises(DataError, match="the frozen test set has changed"):
        general_prompts()


def test_regression_counts_what_was_lost():
    prompts = general_prompts()[:2]
    result = regression(prompts, ["Paris", "Tokyo"], ["Paris", '{"intent": "out_of_scope"}'])
    assert result["lost"] == [prompts[1].id] and result["json_answers"] == {"before": 0, "after": 1}
    assert (result["before"]["k"], result["after"]["k"], result["test"]["lost"]) == (2, 1, 1)
