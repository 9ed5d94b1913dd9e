"""`ftlab choose`: asks about a task or reads the answers, and recommends a lever; the face of `ftlab.choose`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ftlab.errors import DataError, UsageError


def add_commands(commands: Any) -> None:
    """Add the command `choose` to the parser of `ftlab`."""
    parser = commands.add_parser("choose", help="prompt, constrain, retrieve, code or train: what a task calls for, and why")
    parser.add_argument("taskdir", metavar="TASKDIR", help="a built-in task or a task folder")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="answers as a JSON object (default: they are asked)")
    parser.add_argument(
        "--results", type=Path, metavar="RUN",
        help="a run folder, results.json, or what ftlab eval --base --json wrote (default: runs/TASK, else TF-IDF is run)",
    )  # fmt: skip
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="write answers, numbers and recommendation as one JSON object here"
    )
    parser.set_defaults(run=_choose, after_stop="")


def _choose(args: argparse.Namespace) -> None:
    from ftlab.artifact import writer
    from ftlab.choose import ask, check_answers, measure_plain, read_measured, recommend, recommendation_text, task_defaults
    from ftlab.task import load_task

    task, write = load_task(args.taskdir), writer(args.json)
    defaults = task_defaults(task)
    run = args.results or Path("runs") / task.name
    known = args.results is not None or (run / "results.json").is_file()
    if args.answers is None and not sys.stdin.isatty():
        raise UsageError("--answers: expected a file with answers, since there is no terminal to ask at; see ftlab choose --help.")
    given = _read(args.answers) if args.answers else None
    measured = read_measured(task, run) if known else measure_plain(task)
    defaults |= {"prompt_tried": True} if measured.prompt else {}
    answers, taken = check_answers(ask(defaults) if given is None else given, defaults)
    found = recommend(answers, measured) | {"task": task.name, "defaults_taken": taken}
    write(found)
    print(recommendation_text(found))
    if taken:
        print(f"\nNot answered, so taken from the folder or as usual: {', '.join(f'{name} = {answers[name]}' for name in taken)}")


def _read(path: Path) -> dict:
    """The answers in a file; what `--json` wrote may be given again.

    Raises:
        DataError: no file, or no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: expected a JSON file of answers, found no file.") from None
    except ValueError as error:
        raise DataError(f"{path}: expected a JSON object of answers, found a fault: {error}.") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected a JSON object of answers, found a {type(found).__name__}.")
    return found["answers"] if isinstance(found.get("answers"), dict) else found
