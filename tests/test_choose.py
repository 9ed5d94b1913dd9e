"""Which lever: twelve written cases with the right answer, and one decisive fact turned round in each direction."""

import json
import re

import pytest

from ftlab.choose import (
    LEVERS,
    QUESTIONS,
    RULES,
    ask,
    check_answers,
    measure_plain,
    read_answer,
    read_measured,
    recommendation_text,
    task_defaults,
)
from ftlab.cli import main
from ftlab.course.levers import cases, decide, measured
from ftlab.errors import DataError
from ftlab.evaluate import evaluate_outputs

CASES = cases()


def chosen(case, **changes):
    """(verdict by lever, whole recommendation) of a case with some answers or measurements changed."""
    found = decide(case, **changes)
    return {lever["lever"]: lever["verdict"] for lever in found["levers"]}, found


def test_there_are_twelve_cases_of_as_many_domains():
    assert len(CASES) == 12 and all(len(case["situation"]) > 80 and len(case["because"]) > 30 for case in CASES.values())
    assert {case["right"]["first"] for case in CASES.values()} == set(LEVERS)  # every lever is right somewhere
    assert sum(case["right"]["train"] for case in CASES.values()) == 4


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_written_case_gets_its_right_answer(case):
    verdicts, found = chosen(case)
    right = case["right"]
    assert found["levers"][0]["lever"] == right["first"] and found["train"] == right["train"], found["headline"]
    assert {name for name, verdict in verdicts.items() if verdict == "first"} == {right["first"], *right.get("also_first", [])}
    assert {name: verdicts[name] for name in right["not"]} == dict.fromkeys(right["not"], "no")
    assert all(verdicts[name] == "next" for name in right.get("next", [])), verdicts
    assert all(verdicts[name] in ("next", "beside") for name in right["beside"]), verdicts
    assert found["headline"].startswith("Train: " if right["train"] else "Do not train: ")


@pytest.mark.parametrize(
    ("case", "changes", "first", "train"),
    [
        ("support-triage", {"rows_may_train": False}, "prompt_only", False),
        ("support-triage", {"rows": 30}, "constrained_decoding", False),
        ("support-triage", {"prompt": (98, 100), "causes": {"knowledge": 2}}, "prompt_only", False),
        ("leave-policy", {"known": "examples", "changes": "rarely", "cite": False, "teaches": True}, "sft", True),
        ("invoice-totals", {"rules": "none", "known": "examples", "teaches": True}, "sft", True),
        ("news-sections", {"tfidf": (380, 500)}, "sft", True),
        ("bank-pressure", {"judged": "right"}, None, False),
        ("plant-notation", {"raw_mtokens": 0.5}, None, False),
        ("plant-notation", {"language": "known", "rows": 600, "teaches": True}, "sft", True),
        ("clause-risk", {"teaches": False}, None, False),
        ("child-welfare", {"rows_may_train": True}, None, False),
        ("lab-reports", {"rows": 900}, "sft", True),
    ],
)
def test_one_decisive_fact_turns_the_answer(case, changes, first, train):
    assert chosen(CASES[case])[1]["levers"][0]["lever"] == CASES[case]["right"]["first"]
    _, found = chosen(CASES[case], **changes)
    leading = found["levers"][0]
    assert (leading["lever"] if leading["verdict"] == "first" else None) == first, found["headline"]
    assert found["train"] == train


def test_every_rule_speaks_in_some_case_and_is_silent_in_another():
    """A line of the table that no case needs, or that always holds, would be decoration."""
    spoken = [set() for _ in RULES]
    for case in CASES.values():
        for changes in ({}, *EXTRA):
            answers, _ = check_answers(case["answers"] | {k: v for k, v in changes.items() if k in case["answers"]}, {})
            from ftlab.choose import Facts

            facts = Facts(answers, measured(case))
            for rule, seen in zip(RULES, spoken, strict=True):
                seen.add(bool(rule.when(facts)))
    silent = [f"{r.lever} {r.verdict}: {r.why}" for r, seen in zip(RULES, spoken, strict=True) if seen != {True, False}]
    assert not silent


EXTRA = (  # variations of the cases that reach the rarer lines
    {"language": "partly", "raw_mtokens": 20},
    {"judged": "preferred", "pairs": 500, "tuned": False},
    {"language": "unknown", "raw_mtokens": 1},
)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_lever_has_reason_evidence_and_cost(case):
    _, found = chosen(case)
    for lever in found["levers"]:
        assert lever["cost"] and lever["reasons"], lever
        assert all(len(r["why"]) > 20 and r["evidence"] for r in lever["reasons"])
    leading = found["levers"][0]["reasons"][0]["evidence"]
    assert re.search(r"\d", leading) or "(your answers)" in leading
    text = recommendation_text(found)
    assert text.startswith(found["headline"]) and text.count("   why") >= 7 and "   cost" in text


def test_no_beats_first_and_the_cheaper_stands_before():
    order = list(LEVERS)
    for case in CASES.values():
        _, found = chosen(case)
        ranks = [("first", "next", "beside", "no").index(lever["verdict"]) for lever in found["levers"]]
        assert ranks == sorted(ranks)
        for a, b in zip(found["levers"], found["levers"][1:], strict=False):
            assert a["verdict"] != b["verdict"] or order.index(a["lever"]) < order.index(b["lever"])
        for lever in found["levers"]:
            assert any(r["verdict"] == "no" for r in lever["reasons"]) == (lever["verdict"] == "no")


def test_the_cost_of_reading_a_language_is_six_n_d():
    """6 · 135e6 · 40e6 = 3.24e16 operations; at 1e11 a second 90 hours."""
    _, found = chosen(CASES["plant-notation"])
    assert "3.2e+16 operations, 90 hours" in found["levers"][0]["cost"]


def test_few_measured_rows_are_told_with_the_width_of_their_interval():
    """5 of 10: Wilson 95 % interval [0.237, 0.763], 53 points."""
    _, found = chosen(CASES["lab-reports"], prompt=(4, 10), causes={"format": 6})
    assert found["first_of_all"] == ["Label more held-out rows: 10 give intervals up to 53 points wide."]
    assert "ftlab eval --base" in chosen(CASES["club-idea"])[1]["first_of_all"][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"known": "somewhere"}, "known: expected message or examples or documents or general, found 'somewhere'"),
        ({"colour": "red"}, "colour: not a question"),
        ({"rows": -1}, "rows: expected a number from 0 on, found -1"),
        ({"rows": float("nan")}, "rows: expected a number"),
        ({"good_enough": 95}, "good_enough: expected a number from 0 on, at most 1, found 95"),
        ({"must_hold": "maybe"}, "must_hold: expected yes or no"),
        ({"access": None}, "access: no answer; What may be done with the model"),
        ({"rows": True}, "rows: expected a number"),
    ],
)
def test_an_impossible_answer_is_named(change, says):
    with pytest.raises(DataError) as error:
        check_answers(CASES["club-idea"]["answers"] | change, {})
    assert any(problem.startswith(says) for problem in error.value.problems), error.value.problems


def test_all_missing_answers_are_named_at_once():
    with pytest.raises(DataError) as error:
        check_answers({}, {})
    assert len(error.value.problems) == sum(q.default is None for q in QUESTIONS)


def test_questions_are_asked_until_they_are_answered():
    replies = iter(["nowhere", "message", *[""] * 40])
    asked, said = [], []
    defaults = {q.name: CASES["club-idea"]["answers"][q.name] for q in QUESTIONS if q.name != "known"}
    given = ask(defaults, lambda text: asked.append(text) or next(replies), said.append)
    assert given == CASES["club-idea"]["answers"] and len(asked) == len(QUESTIONS) + 1
    assert "expected message or examples" in said[0] and "[prompt]" in next(a for a in asked if "host lets you tune" in a)


def test_an_answer_may_be_a_word_or_a_truth():
    question = next(q for q in QUESTIONS if q.name == "cite")
    assert read_answer(question, "yes") is read_answer(question, True) is True and read_answer(question, "no") is False


def test_a_folder_tells_its_own_rows(toy_task):
    assert task_defaults(toy_task) == {"rows": len(toy_task.rows("train")), "pairs": 0, "form": "fixed"}
    (toy_task.folder / "pairs.jsonl").write_text("{}\n\n{}\n")
    assert task_defaults(toy_task)["pairs"] == 2


def test_the_cheap_baseline_is_run_where_nothing_else_is_there(toy_task):
    found = measure_plain(toy_task)
    assert found.prompt is None and found.tfidf[1] == len(toy_task.rows("validation")) and "TF-IDF on" in found.source


def test_an_evaluation_of_the_untuned_model_is_weighed_by_the_verdict(toy_task, tmp_path):
    """Two rows right, one of the wrong class, the others no JSON: knowledge 1, format the rest."""
    rows = toy_task.rows("validation")
    right = [toy_task.completion(row) for row in rows]
    wrong = json.dumps(rows[2].output | {"intent": next(i for i in ("login", "other") if i != rows[2].output["intent"])})
    evaluation = evaluate_outputs(toy_task, rows, [*right[:2], wrong, *["sorry"] * (len(rows) - 3)])
    (tmp_path / "e.json").write_text(json.dumps(evaluation))
    found = read_measured(toy_task, tmp_path / "e.json")
    assert found.prompt == (2, len(rows)) and found.causes["format"] == len(rows) - 3 and found.causes["knowledge"] == 1
    assert found.tfidf[1] == len(rows) and found.teaches in (True, False) and "validation rows" in found.source


def test_a_run_of_the_main_job_is_read_with_its_source(toy_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = ["--profile", "smoke", "--train-rows", "6", "--general-rows", "0", "--rank", "2"]
    assert main(["run", str(toy_folder), *short]) == 0
    answers = tmp_path / "answers.json"
    given = {k: v for k, v in CASES["support-triage"]["answers"].items() if k not in ("rows", "form", "pairs")}
    answers.write_text(json.dumps(given))
    out = tmp_path / "new" / "choice.json"
    assert main(["choose", str(toy_folder), "--answers", str(answers), "--json", str(out)]) == 0
    said, found = capsys.readouterr().out, json.loads(out.read_text())
    assert found["measured"]["causes"]["format"] > 0 and found["measured"]["tuned"] and found["measured"]["minutes"] is not None
    assert "toy/results.json" in found["measured"]["source"] and "of tiny" in found["measured"]["source"]
    assert found["defaults_taken"] == ["form", "rows", "pairs"] and "rows = " in said and found["headline"] in said
    assert main(["choose", str(toy_folder), "--answers", str(out)]) == 0  # what was written may be given again
    schema = json.loads((toy_folder / "schema.json").read_text())
    (toy_folder / "schema.json").write_text(json.dumps(schema | {"description": "another"}))
    assert main(["choose", str(toy_folder), "--answers", str(answers)]) == 1
    assert "found some of another schema; run ftlab run again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        (None, 2, "since there is no terminal to ask at"),
        ("[]", 1, "expected a JSON object of answers, found a list"),
        ("{", 1, "found a fault"),
        ("{}", 1, "known: no answer"),
    ],
)
def test_wrong_use_is_told(toy_folder, tmp_path, capsys, text, status, says):
    (tmp_path / "a.json").write_text(text or "")
    options = [] if text is None else ["--answers", str(tmp_path / "a.json")]
    assert main(["choose", str(toy_folder), *options]) == status
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{}", '{"systems": {}}', '{"rows": [{"id": "zzz"}]}', "no"])
def test_results_of_something_else_are_refused(toy_task, tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=r"r\.json: expected"):
        read_measured(toy_task, tmp_path / "r.json")
