"""`ftlab compare`: the untuned model and any number of adapters on the same messages, the face of `ftlab.sidebyside.compare`."""

import argparse
from pathlib import Path
from typing import Any

from ftlab.errors import UsageError

FIRST_ROWS = 8  # validation rows that are compared where no file and no message is given


def add_commands(commands: Any) -> None:
    """Add the command `compare` to the parser of `ftlab`."""
    parser = commands.add_parser("compare", help="the untuned model and adapters side by side on one loaded base")
    parser.add_argument("what", nargs="?", metavar="FILE.jsonl | TEXT", help="default: a few validation rows of the task")
    parser.add_argument("--task", required=True, help="a built-in task or a task folder")
    parser.add_argument("--base", action="store_true", help="the untuned model too")
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="[NAME=]FOLDER", help="an adapter; give the option once for each"
    )
    parser.add_argument(
        "--model", help="tiny, tiny-pretrained, smollm2-135m, a hub id, a folder (default: the first adapter's base)"
    )
    parser.add_argument("--chat-template", metavar="FILE", help="chat template for a model without one: a jinja file, or plain")
    parser.add_argument("--prompt", choices=("short", "long"), help="default: short with an adapter, long without")
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument(
        "--rows", type=int, help=f"how many rows, in proportion to the classes (default: all; {FIRST_ROWS} without a file)"
    )
    parser.add_argument(
        "--constrain", choices=("auto", "none"), default="auto", help="none: decode freely (default: auto, as predict)"
    )
    parser.add_argument("--no-cache", action="store_true", help="generate every output anew")
    parser.add_argument("--show", type=int, default=8, metavar="N", help="messages shown with their answers (default: 8)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything as one JSON object here")
    parser.add_argument("--figure", type=Path, metavar="OUT.png", help="draw the scores here (png, svg or pdf)")
    parser.set_defaults(run=_compare, after_stop="Answers that were finished are kept; run the same command to go on.")


def _compare(args: argparse.Namespace) -> None:
    from ftlab.artifact import read_lineage, writer
    from ftlab.models import EMBEDDED, load_model
    from ftlab.sidebyside import compare, comparison_text, named_adapters
    from ftlab.task import load_task

    _check(args)
    task, adapters = load_task(args.task), named_adapters(args.adapter)
    rows = _rows(args, task)
    write, draw = writer(args.json), writer(args.figure, _figure)
    first = next(iter(adapters.values()), None)
    made_for = read_lineage(first).get("base", {}).get("model") if first else None
    loaded = load_model(args.model or made_for or EMBEDDED, chat_template=args.chat_template)
    comparison = compare(
        task, loaded, adapters, rows, base=args.base, prompt=args.prompt, max_new_tokens=args.max_new_tokens,
        constrain=args.constrain == "auto", cache=not args.no_cache,
    )  # fmt: skip
    write(comparison)
    draw(comparison)
    print(comparison_text(comparison, args.show))


def _check(args: argparse.Namespace) -> None:
    for name, least in (("max_new_tokens", 1), ("rows", 1), ("show", 0)):
        if getattr(args, name) is not None and getattr(args, name) < least:
            raise UsageError(f"--{name.replace('_', '-')}: expected {least} or more, found {getattr(args, name)}.")
    if args.figure and args.figure.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--figure: expected a name that ends in .png, .svg or .pdf, found {args.figure}.")


def _rows(args: argparse.Namespace, task: Any) -> list:
    from ftlab.rows import Row, whole_rows
    from ftlab.task import stratified

    if args.what is None:
        return stratified(task.rows("validation"), args.rows or FIRST_ROWS, task.class_field)
    if not Path(args.what).suffix == ".jsonl":
        if not args.what.strip():
            raise UsageError("expected a message to answer, found an empty text.")
        return [Row("message", args.what)]
    rows = whole_rows(Path(args.what))
    labelled = all(row.output is not None for row in rows)
    return stratified(rows, args.rows, task.class_field) if args.rows and labelled else rows[: args.rows]


def _figure(path: Path, comparison: dict) -> None:
    from ftlab.plots import compared_bars

    compared_bars(comparison).savefig(path, dpi=100)
