"""The small proofs of notebook 03: cases and their turning points, fields computed, dice, look-up, comparisons, a model of letters."""

import json
from dataclasses import replace

import pytest

from ftlab import evaluate_outputs, load_task
from ftlab.choose import Measured
from ftlab.constrain import CopyGuard, CopyRules
from ftlab.course import lookup
from ftlab.course.comparisons import learnt_field, taught_by_labels, taught_by_pairs
from ftlab.course.dice import HELD, Dice
from ftlab.course.levers import bill, cases, computed, decide, first_levers, measured, recomputed, turning_points
from ftlab.course.reading import Letters, shift_log
from ftlab.errors import DataError
from ftlab.rows import Row

TASK = load_task("support_plan")


def test_a_turning_point_is_one_answer_that_changes_what_is_first():
    case = cases()["invoice-totals"]
    turns = turning_points(decide(case)["answers"], measured(case))
    assert turns and all(turn["first"] != ["rules_in_code"] for turn in turns)
    for turn in turns:
        assert first_levers(decide(case, **{turn["question"]: turn["given"]})) == turn["first"]
    assert {turn["question"] for turn in turns} == {"rules"}  # everything else leaves a computed answer computed


def test_a_case_without_evidence_has_nothing_measured():
    assert measured(cases()["club-idea"]) == Measured()


def test_a_measurement_of_a_case_can_be_changed():
    assert decide(cases()["support-triage"])["train"] and not decide(cases()["support-triage"], tfidf=(99, 100))["train"]


def test_the_table_gives_every_label():
    assert all(computed(TASK, row.output) == row.output["missing_info"] for row in TASK.rows("validation"))


def test_only_the_computed_field_changes():
    right = TASK.rows("validation")[0].output
    spoilt = json.dumps(right | {"missing_info": ["phone", "date"]})
    (mended,) = recomputed(TASK, [spoilt])
    assert json.loads(mended) == right
    assert recomputed(TASK, ["no JSON"]) == ["no JSON"]


def test_a_task_without_such_a_rule_is_refused():
    with pytest.raises(DataError, match="required_fields"):
        computed(replace(TASK, rules=()), TASK.rows("validation")[0].output)


def test_the_bill_counts_rows_and_operations():
    """200 rows at 20 an hour are 10 hours; 6 · 135e6 · 1e6 operations at 1e11 a second are 8100 s, 2.25 hours."""
    found = bill({"training": {"seconds": 7200, "rows": 400}, "cost": {"seconds": {"classifiers": 36}}}, pairs=60, mtokens=1)
    hours = list(found.values())
    assert hours[:4] == [(10, 0.01), (10, 1), (20, 2), (2, pytest.approx(0.6))]
    assert hours[4] == (0, pytest.approx(2.25)) and hours[5][1] == pytest.approx(2e6 * 2.25)


@pytest.mark.parametrize("held", HELD)
def test_dice_are_held_to_what_they_are_held_to(held):
    rows = TASK.rows("validation")[:60]
    dice = Dice(TASK, held, seed=3)
    scores = evaluate_outputs(TASK, rows, [dice.write(row) for row in rows])["scores"]
    assert scores["schema_valid"]["k"] == (0 if held == "nothing" else 60)
    assert (scores["fabricated"]["k"] > 20) == (held == "form") and (held != "form and copies" or scores["fabricated"]["k"] == 0)


def test_held_dice_agree_with_the_guard_and_leave_out_what_cannot_be_copied():
    row = Row("r", "12", None)
    dice = Dice(TASK, "form and copies")
    answers = [dice.write(row) for _ in range(200)]
    assert all(CopyGuard(CopyRules.of(TASK.rules), row.text).allows(answer) for answer in answers)
    assert not any("card_last4" in answer for answer in answers) and any('"date"' in answer for answer in answers)


def test_dice_know_three_ways_to_be_held():
    with pytest.raises(ValueError, match="expected held to be one of"):
        Dice(TASK, "copies")


def test_the_nearest_text_is_the_same_text():
    texts = ["the lid leaks", "a parcel is late", "reset my password"]
    assert [found[0][0] for found in lookup.Nearest(texts).find(texts)] == [0, 1, 2]
    first, second = lookup.Nearest(texts).find(["my passwords reset"], k=2)[0]
    assert first[0] == 2 and first[1] > second[1] >= 0
    with pytest.raises(ValueError, match="found none"):
        lookup.Nearest([])


def test_what_carries_over_is_told_part_by_part():
    a = Row("a", "x", {"intent": "i", "entities": {"date": "1"}, "missing_info": [], "next_step": "Go."})
    b = replace(a, output=a.output | {"entities": {"date": "2"}, "next_step": "Stay."})
    told = {"intent": True, "missing_info": True, "next_step": False, "names of values": True, "values": False}
    assert lookup.carried_over(a, b) == told
    assert "values" not in lookup.carried_over(replace(a, output=a.output | {"entities": {}}), b)


def test_memory_keeps_the_old_answer_and_look_up_reads_the_new_one():
    known = lookup.places(6)
    now = lookup.changed(known, 2)
    moved = [i for i, (old, new) in enumerate(zip(known, now, strict=True)) if old != new]
    asked = [lookup.QUESTIONS[2].format(place=place.name) for place in known]
    assert len(moved) == 2 and len({place.name for place in known}) == 6
    assert lookup.Memory(known).answer(asked) == [place.closes for place in known]
    assert lookup.LookUp([place.passage for place in now]).answer(asked) == [place.closes for place in now]


def test_a_misspelt_name_has_the_same_letters():
    assert lookup.misspelt("Alderby") == "Aldreby"


def test_a_passage_without_a_time_gives_nothing():
    assert lookup.LookUp(["The library is closed."]).answer(["when?"]) == [""]


def test_labels_and_pairs_teach_what_one_word_decides():
    words = {"reset_password": "password", "get_invoice": "invoice", "cancel_account": "cancel"}
    rows = [Row(f"{word}{i}", f"{word} please {i}", {"intent": intent}) for i in range(12) for intent, word in words.items()]
    assert all(taught_by_labels(TASK, rows[:24], rows[24:])) and all(taught_by_pairs(TASK, rows[:24], rows[24:]))
    assert not any(taught_by_pairs(TASK, rows[:2], [replace(rows[2], id="x")]))  # its class was never shown


def test_a_field_is_learnt_from_the_words_it_hangs_on():
    known = [("get_invoice email", "order_id"), ("get_invoice order_id", "email"), ("contact_human", "")] * 5
    assert learnt_field(known, ["contact_human", "get_invoice email"]) == ["", "order_id"]


def test_chances_of_letters_sum_to_one():
    model = Letters(order=2, signs=3).read("abcab")
    for before in ("", "a", "ab", "zz"):
        assert sum(model.chance(before, sign) for sign in "abc") == pytest.approx(1)


def test_the_first_letter_has_the_chance_that_was_counted():
    """After "aab": counts a 2, b 1; two kinds; P(a) = (2 + 2/4) / (3 + 2) = 0.5 with four letters in all."""
    assert Letters(order=0, signs=4).read("aab").chance("", "a") == pytest.approx(0.5)


def test_nothing_read_is_as_surprising_as_any_letter():
    assert Letters(signs=8).bits("abc") == pytest.approx(3)
    with pytest.raises(ValueError, match="empty"):
        Letters().bits("")


def test_reading_makes_the_notation_less_surprising():
    logs, held_out = shift_log(100, seed=1), shift_log(10, seed=2)
    assert logs != held_out and logs == shift_log(100, seed=1)
    assert Letters().read(logs).bits(held_out) < Letters().read(logs[:200]).bits(held_out) - 1


def test_what_is_written_was_read():
    assert set(Letters(order=2).read("abab").write("a", 9)) <= {"a", "b"}
    assert Letters(order=2).read("abababab").write("ab", 4) == "abab"
