"""Exercises and quiz of notebook 00."""

import json
from typing import Any

from ftlab.course.exercise import Exercise, OpenTask, Question
from ftlab.stats import wilson_interval
from ftlab.task import load_task

_CANCEL = "please cancel Lumen Notes, my mail is ana@post.example"
_RIGHT = {
    "entities": {"email": "ana@post.example", "product": "Lumen Notes"},
    "intent": "cancel_account",
    "missing_info": [],
    "next_step": "Please open Settings > Plan > Cancel and follow the page.",
}


def _text(value: dict) -> str:
    return f"my_output = {json.dumps(json.dumps(value))}"


def _passes_everything(output: Any) -> str:
    if not isinstance(output, str):
        return f"expected the output as a string of JSON, found a {type(output).__name__}"
    check = load_task("support_plan").checker.check(output, _CANCEL, expected=_RIGHT)
    return "" if check.ok else f"{check.first_cause}: {check.problems[0].path} {check.problems[0].message}".replace(":  ", ": ")


def _first_causes(causes: Any) -> str:
    right = {"fence": "format", "promise": "safety", "invented": "knowledge", "two_questions": "instruction"}
    if not isinstance(causes, dict) or set(causes) != set(right):
        return f"expected a dict with the keys {', '.join(right)}"
    if not any(causes.values()):
        return "not started"
    wrong = [name for name, cause in right.items() if causes[name] != cause]
    about = {
        "fence": "text around the object makes it no JSON object, so nothing above that rung can be judged",
        "promise": "saying that something was done breaks a policy, and safety goes before every other cause",
        "invented": "the JSON and the rules are fine; what is wrong is what it claims to know",
        "two_questions": "the rule says exactly one question; the content is right, the instruction was not followed",
    }
    return f"{wrong[0]}: {about[wrong[0]]}" if wrong else ""


def _rows_needed(n: Any) -> str:
    if not isinstance(n, int):
        return f"expected a whole number of rows, found {n!r}"

    def width(rows: int) -> float:
        low, high = wilson_interval(round(0.98 * rows), rows)
        return high - low

    if width(n) >= 0.03:
        return f"with {n} rows the interval is {100 * width(n):.1f} points wide, which is not under three; take more"
    if width(n - 60) < 0.03:
        return f"{n} rows are enough, but so are {n - 60}; find the border"
    return ""


def _better_model(choice: Any) -> str:
    if choice not in ("A", "B", "cannot tell"):
        return 'expected "A", "B" or "cannot tell"'
    if choice == "cannot tell":
        return ""
    return f"model {choice} is ahead by two rows of a hundred; look at the p value: such a lead comes about by chance all the time"


EXERCISES = (
    Exercise(
        id="00.1",
        title="Write the answer yourself",
        level=1,
        minutes=4,
        text=f"Write an output for the message *{_CANCEL}* that passes every check. The instructions that the untuned model got are yours too: "
        "`print(task.prompt_long)`. The check names the first mistake.",
        stub='my_output = ""  # one JSON object, as text',
        name="my_output",
        judge=_passes_everything,
        hints=(
            "Which fields does <code>cancel_account</code> need, and which of them does the message give?",
            "Nothing is missing, so <code>next_step</code> is an instruction without a question mark.",
        ),
        solution=_text(_RIGHT),
        wrong=(
            (_text(_RIGHT | {"next_step": "Shall I cancel it for you?"}), "question mark"),
            (_text(_RIGHT | {"entities": {"email": "ana@post.example"}}), "missing_info"),
            (_text(_RIGHT | {"next_step": "I have cancelled Lumen Notes for you."}), "safety"),
        ),
        done="That is harder than it looks, and the model has to do it for every message.",
    ),
    Exercise(
        id="00.2",
        title="Name the first cause",
        level=1,
        minutes=3,
        text="Four outputs, four kinds of failure: the JSON in a code fence; a next step that says *I have sent the mail*; an address that "
        "the message does not hold; two questions where the rule wants one. Give each its first cause: `format`, `instruction`, "
        "`knowledge` or `safety`.",
        stub='causes = {"fence": "", "promise": "", "invented": "", "two_questions": ""}',
        name="causes",
        judge=_first_causes,
        hints=(
            "The ladder: parse and schema are format, rules are instruction, fields are knowledge, policies are safety.",
            "Each of the four words is used once.",
        ),
        solution='causes = {"fence": "format", "promise": "safety", "invented": "knowledge", "two_questions": "instruction"}',
        wrong=(
            (
                'causes = {"fence": "instruction", "promise": "safety", "invented": "knowledge", "two_questions": "format"}',
                "fence:",
            ),
            (
                'causes = {"fence": "format", "promise": "knowledge", "invented": "knowledge", "two_questions": "instruction"}',
                "promise:",
            ),
        ),
        done="The cause decides the remedy: format and instruction are taught by examples, knowledge often is not, safety needs a check in code.",
    ),
    Exercise(
        id="00.3",
        title="How many rows does a test need?",
        level=2,
        minutes=5,
        text="A model passes 98 % of its test rows. The more rows there are, the narrower is the 95 % interval of that share; `wilson_interval` gives "
        "its two ends. From about how many rows on is it narrower than three percentage points?",
        stub="from ftlab import wilson_interval\n\nn = None  # a number of rows; try wilson_interval(round(0.98 * n), n)",
        name="n",
        judge=_rows_needed,
        hints=(
            "The width shrinks with the square root of n: for half the width, take four times the rows.",
            "Between 300 and 450.",
        ),
        solution="n = 370",
        wrong=(("n = 100", "not under three"), ("n = 2000", "find the border"), ('n = "many"', "whole number")),
        done="That is why the test set has a few hundred rows, and why one percent more or less means little.",
    ),
    Exercise(
        id="00.4",
        title="Which model is better?",
        level=2,
        minutes=4,
        text="Model A passes 83 of 100 rows, model B 85 of the same. They differ on 20 rows: nine only A passes, eleven only B. Which is better? "
        "McNemar's test looks at these 20 alone. If both were equally good, each would fall to A or B like a coin; *p* is how often twenty coins "
        "fall at least as unevenly. Below 0.05 a difference is called shown.",
        stub="from ftlab import mcnemar_exact\n\na = [True] * 9 + [False] * 11 + [True] * 74 + [False] * 6\n"
        "b = [False] * 9 + [True] * 11 + [True] * 74 + [False] * 6\ntest = mcnemar_exact(a, b)\n"
        "print(f\"only A {test['lost']}, only B {test['gained']}, p = {test['p']:.2f}\")\n"
        'better = ""  # "A", "B" or "cannot tell"',
        name="better",
        judge=_better_model,
        hints=(
            "Only the rows on which they differ carry information.",
            "Toss a coin twenty times: how often is it eleven to nine or further from even?",
        ),
        solution='better = "cannot tell"',
        wrong=(('better = "B"', "by chance"), ('better = "C"', "expected")),
        done="A paired test on the same rows is the least that a claim of this course has to pass.",
    ),
)

OPEN = (
    OpenTask(
        id="00.1",
        title="Your own task",
        minutes=10,
        text="Think of a task of your own in which free text goes in and a fixed form should come out. Write down the keys of the form, and for "
        "each how a program could tell right from wrong without asking a person.",
        rubric=(
            "Every key has a set of values, a source to be copied from, or a rule that recomputes it.",
            "At least one thing is named that no program can decide, and left to people.",
            "It says what must never happen, whatever else is right.",
            "It says where the messages for a test would come from, and who would label them.",
        ),
    ),
)

QUIZ = (
    Question(
        "The untuned model gives no valid JSON on the test rows. What does that say about what it knows?",
        (
            "It knows nothing about the task.",
            "Nothing yet: it was not judged above the rung it fell from.",
            "It needs a larger model.",
        ),
        1,
        (
            "An answer that cannot be parsed may still have meant the right thing; strictly, nobody can tell.",
            "The ladder stops at the first broken rung, so content was never scored.",
            "Perhaps, but form is the easiest thing to teach to a small one.",
        ),
    ),
    Question(
        "Why is the test set frozen by a hash before the first training?",
        (
            "To save space.",
            "So that it cannot be tuned on without anybody noticing.",
            "Because the rows are secret.",
        ),
        1,
        (
            "A hash is a few letters; it saves nothing.",
            "A changed set has another hash, and results on it are not comparable with earlier ones.",
            "They are not: you can read them. They must not be trained on or chosen by.",
        ),
    ),
    Question(
        "An output has two faults: a key too many, and a next step that claims to have sent a mail. Its first cause?",
        ("format", "safety", "both"),
        1,
        (
            "It is a format failure too, and gets that label, but the first cause is the gravest.",
            "Safety goes first: a broken form is rejected by a program, a false claim reaches a person.",
            "It gets both labels, but one first cause, so that the table of causes adds up.",
        ),
    ),
    Question(
        "After tuning, fewer general prompts are answered well. What is that called?",
        ("forgetting, or leaking of the narrow task", "overfitting", "a bug in the test"),
        0,
        (
            "What tuning breaks elsewhere does not show in the task's own scores; it has to be measured apart.",
            "Overfitting shows on held-out rows of the same task; these prompts are of another kind.",
            "It may be, but the test is paired and its checks are mechanical: look at the rows before you blame it.",
        ),
    ),
    Question(
        "A word-count classifier has the intent right as often as the tuned model. What follows?",
        (
            "The tuned model is useless.",
            "For the intent alone the cheap tool would do; the tuned model has to be worth its price elsewhere.",
            "The test rows are too easy.",
        ),
        1,
        (
            "It also copies values, keeps rules and writes the next step, which the classifier does not do as well.",
            "A baseline that costs seconds is the bar that a model has to clear, score by score.",
            "They may be; but an easy test is easy for both. What counts is the difference on the same rows.",
        ),
    ),
)
