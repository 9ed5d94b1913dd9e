"""Exercises and quizzes. Everything about one stands in one place: text, stub, check, hints, solution, likely wrong answers.

`course.build` makes the notebook's cells of it, and a test runs every solution and every wrong answer through the check. A notebook's own
are in `ftlab/course/nbNN.py` as EXERCISES, OPEN and QUIZ.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ftlab.errors import UsageError

LETTERS = "abcdef"


@dataclass(frozen=True)
class Exercise:
    """A task with a check that names the mistake.

    Attributes:
        id: notebook and number, "04.1".
        level: 1 looks closely, 2 thinks, 3 writes code.
        stub: what the learner changes; it sets `name`, runs as it is and imports what it needs.
        judge: what the check says of the value: "" if right, else the mistake in one sentence.
        hints: a first and a second one.
        solution: code in the stub's place.
        wrong: likely wrong code in the stub's place, each with a piece of what the check says of it.
        done: what is said of a right answer, and why it matters.
    """

    id: str
    title: str
    level: int
    minutes: int
    text: str
    stub: str
    name: str
    judge: Callable[[Any], str]
    hints: tuple[str, str]
    solution: str
    wrong: tuple[tuple[str, str], ...]
    done: str = ""


@dataclass(frozen=True)
class OpenTask:
    """A task without one right answer, with the points that a good answer shows."""

    id: str
    title: str
    minutes: int
    text: str
    rubric: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """One question of a quiz: options, the index of the right one, and for each option why it is right or wrong."""

    text: str
    options: tuple[str, ...]
    right: int
    why: tuple[str, ...]


def exercise(identity: str) -> Exercise:
    """The exercise of that id.

    Raises:
        UsageError: there is none.
    """
    return _find(_module(identity).EXERCISES, identity)


def open_task(identity: str) -> OpenTask:
    """The open-ended task of that id; see `exercise`."""
    return _find(_module(identity).OPEN, identity)


def questions(notebook: str) -> Sequence[Question]:
    """The quiz of the notebook with that number, "04"."""
    return _module(notebook).QUIZ


def _module(identity: str) -> Any:
    number = identity.partition(".")[0]
    try:
        return import_module(f"ftlab.course.nb{number}")
    except ModuleNotFoundError:
        raise UsageError(f"expected the number of a notebook such as 04 or 04.1, found {identity!r}.") from None


def _find(among: Sequence[Any], identity: str) -> Any:
    for item in among:
        if item.id == identity:
            return item
    raise UsageError(f"expected one of {', '.join(item.id for item in among)}, found {identity!r}.")


def assigned(value: Any, name: str) -> str:
    """The line of Python that gives a solution's value to its name."""
    return f"{name} = {value!r}"


def chosen(cases: Mapping[str, tuple[str, str]]) -> Callable[[Any], str]:
    """The judge of an exercise that asks for one of a few answers in each case.

    Args:
        cases: name -> (the right answer, what is said where another one is given).
    """
    allowed = sorted({answer for answer, _ in cases.values()})

    def judge(answers: Any) -> str:
        if not isinstance(answers, dict) or set(answers) != set(cases):
            return f"expected a dict with the keys {', '.join(cases)}"
        if not any(answers.values()):
            return "not started"
        for name, (right, why) in cases.items():
            if answers[name] not in allowed:
                return f"{name}: expected one of {', '.join(allowed)}, found {answers[name]!r}"
            if answers[name] != right:
                return f"{name}: {why}"
        return ""

    return judge


def verdict(task: Exercise, value: Any) -> str:
    """What the check says of `value`: "not started", "right", or the mistake. Never raises for what a learner wrote."""
    if value is None or value is ... or (isinstance(value, str | list | dict | tuple) and not value):
        return "not started"
    try:
        mistake = task.judge(value)
    except Exception as error:  # a learner's own code may raise anything; the notebook goes on
        return f"not yet: your answer raised {type(error).__name__}: {error}"
    if mistake == "not started":
        return mistake
    return f"not yet: {mistake}" if mistake else f"right. {task.done}".strip()


def check(identity: str, value: Any) -> None:
    """Say whether `value` solves the exercise, and if not, where the mistake is."""
    print(verdict(exercise(identity), value))


def quiz_lines(notebook: str, answers: Mapping[int, str]) -> list[str]:
    """A line per question of the notebook's quiz: not answered, right, or not, with the reason for the option that was taken."""
    lines = []
    for number, question in enumerate(questions(notebook), 1):
        letter = str(answers.get(number, "")).strip().lower()
        if not letter:
            lines.append(f"{number}: not answered")
        elif letter not in LETTERS[: len(question.options)]:
            lines.append(f"{number}: expected a letter from a to {LETTERS[len(question.options) - 1]}, found {letter!r}")
        else:
            taken = LETTERS.index(letter)
            lines.append(f"{number} {letter}: {'right' if taken == question.right else 'no'}. {question.why[taken]}")
    return lines


def quiz(notebook: str, answers: Mapping[int, str]) -> None:
    """Print what `quiz_lines` says."""
    print("\n".join(quiz_lines(notebook, answers)))
