"""Every exercise: its solution passes, likely wrong answers fail with a helpful message, the stub is "not started"; sources build."""

import contextlib
import io
from importlib import import_module

import pytest

from ftlab.course import build, check, quiz, speed, stored
from ftlab.course.exercise import Exercise, exercise, questions, quiz_lines, verdict
from ftlab.errors import UsageError

NUMBERS = sorted(path.stem[:2] for path in build.SOURCE.glob("[0-9]*.py"))  # the others have no exercises
MODULES = {number: import_module(f"ftlab.course.nb{number}") for number in NUMBERS}
EXERCISES = [e for module in MODULES.values() for e in module.EXERCISES]


def answer(task: Exercise, code: str):
    """The value that the check would look at after `code` has run in the stub's place."""
    space: dict = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, space)
    return space[task.name]


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.id)
def test_the_solution_is_right_and_the_stub_is_not_started(task):
    assert verdict(task, answer(task, task.solution)).startswith("right")
    assert verdict(task, answer(task, task.stub)) == "not started"


@pytest.mark.parametrize(
    ("task", "code", "says"), [(e, *w) for e in EXERCISES for w in e.wrong], ids=lambda value: getattr(value, "id", "")
)
def test_a_likely_wrong_answer_is_told_where_it_is_wrong(task, code, says):
    said = verdict(task, answer(task, code))
    assert said.startswith("not yet") and says in said, said


@pytest.mark.parametrize("number", NUMBERS)
def test_a_notebook_has_its_exercises_an_open_task_and_a_quiz(number):
    module = MODULES[number]
    assert len(module.EXERCISES) >= 4 and len(module.OPEN) >= 1 and len(module.QUIZ) == 5
    for task in module.EXERCISES:
        assert task.id.startswith(f"{number}.") and task.level in (1, 2, 3) and len(task.wrong) >= 2
    for question in module.QUIZ:
        assert len(question.options) == len(question.why) > question.right >= 0


@pytest.mark.parametrize("number", NUMBERS)
def test_the_source_uses_all_that_was_written_for_it(number):
    source = next(build.SOURCE.glob(f"{number}_*.py")).read_text(encoding="utf-8")
    module = MODULES[number]
    for mark in [f'exercise="{e.id}"' for e in module.EXERCISES] + [f'open="{o.id}"' for o in module.OPEN] + [f'quiz="{number}"']:
        assert source.count(mark) == 1, mark
    assert source.index('part="bootstrap"') < source.index('part="versions"') < source.index("## 1")


@pytest.mark.parametrize("source", sorted(build.SOURCE.glob("*.py")), ids=lambda path: path.stem)
def test_the_stored_notebook_is_that_of_its_source(source):
    assert build.stale(source) == ""


def test_an_answer_that_raises_is_told_and_does_not_stop_the_notebook():
    task = exercise("00.1")
    broken = Exercise(**{**task.__dict__, "judge": lambda value: 1 / 0})
    assert verdict(broken, "{}") == "not yet: your answer raised ZeroDivisionError: division by zero"


def test_a_quiz_gives_the_reason_for_each_answer(capsys):
    right = {n: "abcdef"[q.right] for n, q in enumerate(questions("00"), 1)}
    assert all(": right." in line for line in quiz_lines("00", right))
    quiz("00", {1: "A", 2: "z"})
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("1 a: no. ") and "expected a letter" in said[1] and said[4] == "5: not answered"


@pytest.mark.parametrize("identity", ["00.9", "77.1", "x"])
def test_an_unknown_exercise_is_refused(identity):
    with pytest.raises(UsageError, match="expected"):
        check(identity, 1)


def test_stored_results_say_that_they_are_stored(capsys):
    stored("support_plan")
    assert capsys.readouterr().out.startswith("stored result of a real run: results/support_plan.json (")
    with pytest.raises(UsageError, match="expected one of bench, "):
        stored("none")


def test_a_wrong_speed_is_refused(monkeypatch):
    monkeypatch.setenv("FTLAB_SPEED", "fast")
    with pytest.raises(UsageError, match="smoke, replay, live"):
        speed()


def test_outputs_are_kept_while_the_source_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "NOTEBOOKS", tmp_path)
    source = tmp_path / "99_x.py"
    source.write_text("# %% [markdown]\n# A text\n\n# %%\nprint(1)\n")
    path = build.build(source)
    path.write_text(
        path.read_text().replace('"outputs": []', '"outputs": [{"name": "stdout", "output_type": "stream", "text": ["1"]}]')
    )
    kept = path.read_text()
    build.build(source)
    assert path.read_text() == kept and build.stale(source) == ""
    source.write_text("# %%\nprint(2)\n")
    assert "its cells are not those" in build.stale(source)
    build.build(source)
    assert '"outputs": []' in path.read_text()
