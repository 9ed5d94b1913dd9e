"""General prompts: each part of a check can pass and fail, and an answer in the task's form never passes."""

import pytest

from ftlab.regress import general_prompts, passes, regression


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
    assert len(prompts) >= 40 and len({p.id for p in prompts}) == len({p.input for p in prompts}) == len(prompts)


def test_no_prompt_is_passed_by_nothing_or_by_json():
    for prompt in general_prompts():
        assert not passes(prompt.check, "") and not passes(prompt.check, '{"entities": {}}'), prompt.id


def test_regression_counts_what_was_lost():
    prompts = general_prompts()[:2]
    result = regression(prompts, ["Paris", "Tokyo"], ["Paris", '{"intent": "out_of_scope"}'])
    assert result["lost"] == [prompts[1].id] and result["json_answers"] == {"before": 0, "after": 1}
    assert (result["before"]["k"], result["after"]["k"], result["test"]["lost"]) == (2, 1, 1)
