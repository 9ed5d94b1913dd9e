"""Exercises and quiz of notebook 02."""

import math
from typing import Any

from ftlab.course.exercise import Exercise, OpenTask, Question

_MATRICES = (([[3.0, 0.0], [0.0, 4.0]], [[3.0, 1.0], [2.0, 4.0]]), ([[1.0, 1.0]], [[1.0, 0.5]]))  # |D| / |W| is √5 / 5 and 0.5 / √2
_SHAPES = ((128, 128, 4), (352, 128, 16))
_WHO = {"A": "full", "B": "LoRA", "C": "last layers", "D": "DoRA"}
_MARKS = {
    "A": "every weight in a matrix that changed; effective rank up to 81",
    "B": "three weights in four in changed matrices; effective rank up to 7.6; layers 0 to 3",
    "C": "three weights in eight in changed matrices; effective rank up to 7.4; layers 2 and 3",
    "D": "three weights in four in changed matrices; effective rank up to 52; layers 0 to 3",
}
_RUNS = (
    (1e-4, 0.92, 0.02),
    (3e-4, 0.35, 0.06),
    (1e-3, 0.31, 0.18),
    (3e-3, 0.30, 0.71),
)  # rate, task loss, rise of the general loss
_BEFORE = [("the", "a", "an"), ("of", "in", "to"), ("is", "was", "has"), (".", ",", ";")]
_AFTER = ["a", "of", "{", "."]
_OUTCOMES = {"P": "SFT", "Q": "none", "R": "SFT, then pairs", "S": "pairs alone"}
_TABLE = {
    "P": "in the form 58 of 60, asks first 3 of 60, ranks the pair right 2 of 60",
    "Q": "in the form 0 of 60, asks first 0 of 60, ranks the pair right 21 of 60",
    "R": "in the form 57 of 60, asks first 55 of 60, ranks the pair right 59 of 60",
    "S": "in the form 0 of 60, asks first 0 of 60, ranks the pair right 60 of 60",
}


def _norm(matrix: list[list[float]]) -> float:
    return math.sqrt(sum(x * x for row in matrix for x in row))


def _relative_norm(function: Any) -> str:
    if not callable(function):
        return f"expected a function of two matrices, found a {type(function).__name__}"
    before, after = _MATRICES[0]
    given = function(before, after)
    if given is None or given is ...:
        return "not started"
    squared = 5 / 25
    slips = {
        squared: "these are squares: take the root of both sums",
        math.sqrt(5) / _norm(after): "the change is measured against the weights before, not after",
        math.sqrt(5): "this is |D| alone; without |W| nobody can say whether it is much",
        3 / 7: "this adds up sizes, not squares; a norm is the root of the sum of squares",
        abs(_norm(after) - 5)
        / 5: "the norm of the difference is not the difference of the norms: take W' − W number by number first",
    }
    for value, told in slips.items():
        if math.isclose(given, value, rel_tol=1e-6):
            return told
    right = [
        math.isclose(function(w, new), size, rel_tol=1e-6)
        for (w, new), size in zip(_MATRICES, (5**0.5 / 5, 0.5 / 2**0.5), strict=True)
    ]
    return "" if all(right) else f"for {before} and {after} expected {math.sqrt(5) / 5:.4f}, found {given}"


def _lora_numbers(function: Any) -> str:
    if not callable(function):
        return f"expected a function of rows, columns and rank, found a {type(function).__name__}"
    rows, columns, rank = _SHAPES[1]
    given = function(rows, columns, rank)
    if given is None or given is ...:
        return "not started"
    slips = {
        rows * columns * rank: "W's numbers times the rank are more than W has; B is rows × rank, A is rank × columns",
        rows * columns: "that is the full matrix, which LoRA leaves alone",
        rank * rows: "that is B; A is trained too",
        rank * columns: "that is A; B is trained too",
        2 * rank * rows: "A has as many columns as W, not as many as W has rows",
        2 * rank * columns: "B has as many rows as W, not as many as W has columns",
    }
    if given in slips:
        return slips[given]
    if all(function(m, n, r) == r * (m + n) for m, n, r in _SHAPES):
        return ""
    return f"for a 352 × 128 matrix and rank 16 expected {rank * (rows + columns)}, found {given}"


def _who(named: Any) -> str:
    about = {
        "A": "nothing is left out, not even the table of tokens: what trains all that?",
        "B": "all layers, but at most eight directions: it was trained with rank 8",
        "C": "two of four layers, half of B's weights: the rest was left as it was",
        "D": "the same matrices as B, but far more directions than a product of rank 8 can have: something stretches the rows",
    }
    return _sorted(named, _WHO, about)


def _outcomes(named: Any) -> str:
    about = {
        "P": "it writes the form, but claims where the pairs would have it ask",
        "Q": "it neither writes the form nor ranks the pairs better than by chance",
        "R": "it writes the form, and what it writes is what the pairs prefer",
        "S": "its ranking is perfect, and yet it never writes what it ranks first",
    }
    return _sorted(named, _OUTCOMES, about)


def _sorted(named: Any, right: dict[str, str], about: dict[str, str]) -> str:
    if not isinstance(named, dict) or set(named) != set(right):
        return f"expected a dict with the keys {', '.join(right)}"
    if not any(named.values()):
        return "not started"
    wrong = [name for name, is_ in right.items() if named[name] != is_]
    return f"{wrong[0]}: {about[wrong[0]]}" if wrong else ""


def _dial(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != {"rate", "compare_at"}:
        return "expected a dict with the keys rate and compare_at"
    if not any(answer.values()):
        return "not started"
    if answer["rate"] == 3e-3:
        return "rate: the lowest task loss, but the general loss rises by far more than 0.2 nats"
    if answer["rate"] == 1e-4:
        return "rate: the cheapest, but another one within the limit is far better on the task"
    if answer["rate"] == 3e-4:
        return "rate: within the limit, but a stronger one is too, and better on the task"
    if answer["rate"] != 1e-3:
        return f"rate: expected one of {', '.join(f'{rate:g}' for rate, *_ in _RUNS)}, found {answer['rate']!r}"
    if answer["compare_at"] != "task loss":
        return "compare_at: at equal rates or steps one method may simply have learnt less, and who learns less forgets less"
    return ""


def _changed(function: Any) -> str:
    if not callable(function):
        return f"expected a function of before and after, found a {type(function).__name__}"
    given = function(list(_BEFORE), list(_AFTER))
    if given is None or given is ...:
        return "not started"
    if not isinstance(given, tuple | list) or len(given) != 2:
        return f"expected two shares, found {given!r}"
    slips = {
        (2, 1): "these are counts; divide by all places",
        (0.5, 0.5): "outside: a token that was second or third before is not outside the three",
        (0.25, 0.25): "changed: a second or third choice that is now the first has changed as well",
        (0.25, 0.5): "they stand the wrong way round: first those that changed, then those that left the three",
        (0.5, 0.75): "that share is of the places where it stayed among the three",
    }
    if tuple(given) in slips:
        return slips[tuple(given)]
    right = tuple(given) == (0.5, 0.25) and tuple(function([("a", "b", "c")], ["a"])) == (0, 0)
    return "" if right else f"for the four places of the stub expected (0.5, 0.25), found {tuple(given)}"


def _function(head: str, *lines: str) -> str:
    return "\n    ".join([f"def {head}:", *lines])


_REL, _NUM, _CHG = "relative_norm(before, after)", "lora_numbers(rows, columns, rank)", "changed(before, after)"
_PAIRS = "[(x, y) for row, new in zip(before, after) for x, y in zip(row, new)]"
_PLACES = f"before = {_BEFORE!r}\nafter = {_AFTER!r}\n\n\n"

EXERCISES = (
    Exercise(
        id="02.1",
        title="The size of an update",
        level=3,
        minutes=8,
        text="Write the function: |W' − W| / |W| in Frobenius norms, for two matrices given as lists of rows.",
        stub="from math import sqrt\n\n\n" + _function(_REL, "...  # your lines here"),
        name="relative_norm",
        judge=_relative_norm,
        hints=(
            "The norm of a matrix is the root of the sum of the squares of all its numbers.",
            "Two sums: of the squares of the differences, and of the squares of what was before.",
        ),
        solution="from math import sqrt\n\n\n"
        + _function(
            _REL,
            f"pairs = {_PAIRS}",
            "return sqrt(sum((y - x) ** 2 for x, y in pairs)) / sqrt(sum(x**2 for x, _ in pairs))",
        ),
        wrong=(
            (
                _function(_REL, f"pairs = {_PAIRS}", "return sum((y - x) ** 2 for x, y in pairs) / sum(x**2 for x, _ in pairs)"),
                "squares",
            ),
            (
                _function(
                    _REL, f"pairs = {_PAIRS}", "return (sum((y - x) ** 2 for x, y in pairs) / sum(y**2 for _, y in pairs)) ** 0.5"
                ),
                "not after",
            ),
            (
                _function(_REL, f"pairs = {_PAIRS}", "return sum(abs(y - x) for x, y in pairs) / sum(abs(x) for x, _ in pairs)"),
                "not squares",
            ),
        ),
        done="One number for thousands of changes; what it hides is where they are and in how many directions.",
    ),
    Exercise(
        id="02.2",
        title="What LoRA trains",
        level=2,
        minutes=5,
        text="Write the function that counts the numbers which LoRA trains beside a matrix of so many rows and columns.",
        stub=_function(_NUM, "...  # your line here"),
        name="lora_numbers",
        judge=_lora_numbers,
        hints=("B·A must have the shape of W.", "B is rows × rank, A is rank × columns."),
        solution=_function(_NUM, "return rank * (rows + columns)"),
        wrong=(
            (_function(_NUM, "return rows * columns * rank"), "more than W has"),
            (_function(_NUM, "return 2 * rank * rows"), "as many columns as W"),
            (_function(_NUM, "return rows * columns"), "leaves alone"),
        ),
        done="It grows with the sides of a matrix and not with its area, so the larger the model, the smaller LoRA's share.",
    ),
    Exercise(
        id="02.3",
        title="Who was it?",
        level=1,
        minutes=4,
        text="Four adapters of a model with layers 0 to 3, all LoRA-like ones of rank 8. "
        + " ".join(f"**{name}**: {told}." for name, told in _MARKS.items())
        + " Name each: `full`, `LoRA`, `last layers` (LoRA in some layers only) or `DoRA`.",
        stub='who = {"A": "", "B": "", "C": "", "D": ""}',
        name="who",
        judge=_who,
        hints=("Who may go beyond eight directions?", "Two of them may; one of these leaves the table of tokens alone."),
        solution=f"who = {_WHO!r}",
        wrong=(
            (f"who = {_WHO | {'B': 'DoRA', 'D': 'LoRA'}!r}", "B:"),
            (f"who = {_WHO | {'A': 'DoRA', 'D': 'full'}!r}", "A:"),
            (f"who = {_WHO | {'B': 'last layers', 'C': 'LoRA'}!r}", "B:"),
        ),
        done="So an adapter that somebody hands you can be asked what it is, whatever its name says.",
    ),
    Exercise(
        id="02.4",
        title="Set the dial",
        level=2,
        minutes=5,
        text="Four trainings: "
        + "; ".join(f"rate {rate:g}: task loss {task}, general loss up by {up}" for rate, task, up in _RUNS)
        + ". The general loss may rise by 0.2 nats at most. Which rate do you keep? And at equal *what* would you compare two methods before you "
        'believe that one forgets less: `"rate"`, `"steps"` or `"task loss"`?',
        stub='answer = {"rate": 0, "compare_at": ""}',
        name="answer",
        judge=_dial,
        hints=("First strike out what breaks the limit, then choose by the task.", "Who has learnt nothing has forgotten nothing."),
        solution='answer = {"rate": 1e-3, "compare_at": "task loss"}',
        wrong=(
            ('answer = {"rate": 3e-3, "compare_at": "task loss"}', "far more than 0.2"),
            ('answer = {"rate": 1e-3, "compare_at": "rate"}', "learnt less"),
            ('answer = {"rate": 1e-4, "compare_at": "steps"}', "far better on the task"),
        ),
        done="Fix the limit before you look at the table, and measure both losses on rows that chose nothing.",
    ),
    Exercise(
        id="02.5",
        title="Another token, or a nudge?",
        level=3,
        minutes=8,
        text="Write the function that gives two shares of places: where the likeliest token changed, and where the new one was not even among the "
        "three likeliest before. `before` has three tokens a place, the likeliest first; `after` has one.",
        stub=_PLACES + _function(_CHG, "...  # your lines here"),
        name="changed",
        judge=_changed,
        hints=(
            "A place is a pair of three tokens and one.",
            "Changed: the one is not the first of the three. Outside: it is none of them.",
        ),
        solution=_function(
            _CHG,
            "places = list(zip(before, after))",
            "moved = sum(three[0] != now for three, now in places)",
            "outside = sum(now not in three for three, now in places)",
            "return moved / len(places), outside / len(places)",
        ),
        wrong=(
            (
                _function(
                    _CHG, "n = len(after)", "moved = sum(b[0] != a for b, a in zip(before, after)) / n", "return moved, moved"
                ),
                "second or third",
            ),
            (
                _function(_CHG, "gone = sum(a not in b for b, a in zip(before, after)) / len(after)", "return gone, gone"),
                "has changed as well",
            ),
            (_function(_CHG, "return 2, 1"), "divide by all places"),
        ),
        done="The second share is the stricter one: a close second that comes first is a nudge, a stranger is another opinion.",
    ),
    Exercise(
        id="02.6",
        title="Which outcome is it?",
        level=2,
        minutes=4,
        text="Four models of one base on other orders. "
        + " ".join(f"**{name}**: {told}." for name, told in _TABLE.items())
        + " Name each: `none`, `SFT`, `pairs alone` or `SFT, then pairs`.",
        stub='outcome = {"P": "", "Q": "", "R": "", "S": ""}',
        name="outcome",
        judge=_outcomes,
        hints=(
            "Demonstrations give the form. Which two have it?",
            "Pairs turn the ranking. Which two rank nearly all pairs right?",
        ),
        solution=f"outcome = {_OUTCOMES!r}",
        wrong=(
            (f"outcome = {_OUTCOMES | {'P': 'SFT, then pairs', 'R': 'SFT'}!r}", "P:"),
            (f"outcome = {_OUTCOMES | {'Q': 'pairs alone', 'S': 'none'}!r}", "Q:"),
            (f"outcome = {_OUTCOMES | {'R': 'pairs alone', 'S': 'SFT, then pairs'}!r}", "R:"),
        ),
        done="S is the trap of preference tuning: every measure on pairs is perfect, and nobody can use the model.",
    ),
)

OPEN = (
    OpenTask(
        id="02.1",
        title="An adapter from somebody else",
        minutes=10,
        text="A colleague hands you an adapter for your base model: “it only changes the format”. What would you measure inside and outside before you "
        "believe it, and which result would make you refuse it?",
        rubric=(
            "Scope and rank are read from the adapter itself: which layers, how far, in how many directions.",
            "Choices or losses are measured on general text, apart from the task, with intervals.",
            "It is said that no measure inside proves a behaviour, so answers are generated and checked, general prompts among them.",
            "A limit is fixed before the measurement, and what happens beyond it.",
            "The check compares with the untouched base on the same texts, not with a memory of it.",
        ),
    ),
)

QUIZ = (
    Question(
        "A tuning moved every matrix by a few per cent of its norm. What follows for its effect?",
        (
            "It must be small.",
            "Nothing by itself: it has to be measured on what the model says.",
            "The task is spread evenly over the layers.",
        ),
        1,
        (
            "In section 1 a change of that size turned the prose of manuals into JSON.",
            "Size inside and size outside are two things.",
            "The map shows where numbers moved, not where the task is done.",
        ),
    ),
    Question(
        "Why can LoRA of rank 4 change a matrix in four directions at most?",
        (
            "Its learning rate is too low for more.",
            "Its update is a product of two thin matrices, a sum of four columns times rows.",
            "It trains four layers.",
        ),
        1,
        (
            "At any rate it stays at four; only the size grows.",
            "Whatever the numbers in them are, such a sum has no fifth direction.",
            "It trains matrices beside all layers here; the rank is a property of each.",
        ),
    ),
    Question(
        "Method B has a smaller rise of the general loss than method A after equally many steps. Does B forget less?",
        (
            "Yes, since the steps are equal.",
            "Not shown: B may only have learnt less; compare at equal success on the task.",
            "No, since losses say nothing of forgetting.",
        ),
        1,
        (
            "Equal steps are not equal strength, as the rates in section 5 show.",
            "A method is better if it costs less for the same gain.",
            "They say something: text that was foreseen before is foreseen worse now.",
        ),
    ),
    Question(
        "After DPO on pairs, all held-out pairs are ranked right, and the model still writes none of the preferred answers. Why?",
        (
            "The pairs were held out.",
            "It was taught which of two is likelier; both may still be far less likely than everything else.",
            "DPO needs more steps to work at all.",
        ),
        1,
        (
            "On the pairs it was trained on it would be the same.",
            "A ranking between two improbable answers writes neither; the form comes from demonstrations.",
            "The ranking had turned round, so it did work, at what it was asked to do.",
        ),
    ),
    Question(
        "The likeliest token changed at a quarter of the places of an everyday text, mostly to one that was second or third before. You conclude:",
        (
            "A quarter of what the model knew is gone.",
            "It was nudged where several tokens were nearly as good; whether answers got worse has to be asked apart.",
            "The measurement is broken, since nothing was trained on such text.",
        ),
        1,
        (
            "Most of the new choices were near the top before; and a choice is not a piece of knowledge.",
            "Count choices to see how far a tuning reaches, and check answers to see what it costs.",
            "All text goes through the same weights, so it may change everywhere.",
        ),
    ),
)
