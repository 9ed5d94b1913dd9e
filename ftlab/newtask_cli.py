"""`ftlab new-task`: the face of `ftlab.newtask`."""

import argparse
from pathlib import Path
from typing import Any

from ftlab.errors import UsageError


def add_commands(commands: Any) -> None:
    """Add the command `new-task` to the parser of `ftlab`."""
    parser = commands.add_parser(
        "new-task", help="make a task folder of your labelled rows: schema, rules, prompts, splits, frozen test set"
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the folder to make; its name becomes the task's")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="labelled rows: .csv or .jsonl with a text column and answer columns",
    )
    source.add_argument("--example", action="store_true", help="of 120 rows that ftlab brings: shift notes as work orders")
    parser.add_argument(
        "--text", metavar="COLUMN", help="the column that holds the text (default: by its name, else the longest texts)"
    )
    parser.set_defaults(run=_new_task, after_stop="Nothing was made.")


def _new_task(args: argparse.Namespace) -> None:
    from ftlab.newtask import EXAMPLE, new_task

    if args.source is None and not args.example:
        raise UsageError("expected --from FILE with labelled rows, or --example, found neither; see ftlab new-task --help.")
    made = new_task(args.folder, args.source or EXAMPLE, args.text)
    print(f"{made.folder}: a task folder\n{made.as_text()}")
