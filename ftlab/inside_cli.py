"""`ftlab inspect` and `ftlab xray`: the faces of `ftlab.inside` and `ftlab.xray`."""

import argparse
from pathlib import Path
from typing import Any

from ftlab.errors import DataError, UsageError

PAIRS = "pairs.jsonl"  # in a task's folder


def add_commands(commands: Any) -> None:
    """Add the commands `inspect` and `xray` to the parser of `ftlab`."""
    inspect = commands.add_parser("inspect", help="what training changed inside: weights, token choices, states by layer")
    which = (
        "a model (name, folder, hub id) or an adapter's folder, which means its base with the adapter merged; A+B: one on the other"
    )
    inspect.add_argument("before", metavar="BEFORE", help=which)
    inspect.add_argument("after", metavar="AFTER", help="the same, trained on")
    inspect.add_argument(
        "--task", default="support_plan", help="whose validation rows are the task replies (default: support_plan)"
    )
    inspect.add_argument("--base", help="the model of adapters that do not say theirs (default: smollm2-135m)")
    inspect.add_argument("--rows", type=int, default=24, help="task replies (default: 24)")
    inspect.add_argument("--prompts", type=int, default=20, help="general prompts, answered by BEFORE (default: 20)")
    inspect.add_argument(
        "--texts", type=Path, metavar="FILE", help="general text instead of the prompts; an empty line ends a text"
    )
    inspect.add_argument(
        "--threshold",
        type=float,
        default=0.01,
        help="a weight has moved if it changed by more than this times the root mean square of its matrix (default: 0.01)",
    )
    inspect.add_argument("--rounds", type=int, default=1000, help="of the bootstrap over texts (default: 1000)")
    inspect.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    _outputs(inspect)
    inspect.set_defaults(run=_inspect, after_stop="")
    _add_xray(commands)


def _add_xray(commands: Any) -> None:
    xray = commands.add_parser("xray", help="a row as a trainer sees it: tokens, template, labels, weights, losses")
    xray.add_argument("--task", default="support_plan", help="a built-in task or a task folder (default: support_plan)")
    xray.add_argument(
        "--trainer",
        default="sft",
        help="sft (default), general, dpo, trl-sft, trl-dpo, or for the rows' text as pretraining sees it next-token, "
        "fill-in-the-middle or masked; dpo and trl-dpo take pairs of answers",
    )
    xray.add_argument(
        "--row", nargs="+", metavar="ID", help="which rows, all in one batch (default: the first validation row, prompt or pair)"
    )
    xray.add_argument("--pairs", type=Path, metavar="FILE", help=f"pairs of answers (default: {PAIRS} in the task's folder)")
    xray.add_argument("--model", help="tiny, smollm2-135m (default), a hub id or a local folder")
    xray.add_argument(
        "--adapter", type=Path, help="show the losses of this adapter on the model; to dpo it is the adapter in training"
    )
    xray.add_argument("--text-weight", type=float, default=0.3, help="loss weight of free text, for sft (default: 0.3)")
    xray.add_argument("--max-length", type=int, default=512, help="longer rows are refused (default: 512)")
    _outputs(xray)
    xray.set_defaults(run=_xray, after_stop="")


def _outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything here")
    parser.add_argument("--figure", type=Path, metavar="OUT.png", help="draw it here")


def _inspect(args: argparse.Namespace) -> None:
    from ftlab.artifact import writer
    from ftlab.inside import inspect, inspection_text
    from ftlab.task import load_task

    task, write, draw = load_task(args.task), writer(args.json), writer(args.figure, _save_figure)
    names = ("rows", "prompts", "texts", "base", "threshold", "rounds", "seed")
    result = inspect(args.before, args.after, task, **{name: getattr(args, name) for name in names}, progress=True)
    write(result)
    print(inspection_text(result))
    draw(("inspection", result))


def _xray(args: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    from ftlab.artifact import writer
    from ftlab.models import EMBEDDED, load_model
    from ftlab.task import load_task
    from ftlab.xray import PAIRED, Subject, xray, xray_text

    task, write, draw = load_task(args.task), writer(args.json), writer(args.figure, _save_figure)
    pairs = _pairs(args, task) if args.trainer in PAIRED else []
    rows = [] if args.trainer in PAIRED else _rows(args, task)
    if args.pairs and args.trainer not in PAIRED:
        raise UsageError(f"--pairs: expected one of the trainers {' and '.join(PAIRED)}, found {args.trainer}; leave it out.")
    loaded = load_model(args.model or EMBEDDED)
    given = {"adapter": args.adapter, "text_weight": args.text_weight, "max_length": args.max_length}
    with TemporaryDirectory() as scratch:
        found = xray(args.trainer, Subject(loaded, Path(scratch), task, rows, pairs, **given))
    write(found.as_dict())
    print(xray_text(found))
    draw(("xray", found.as_dict()))
    return 0 if found.agrees else 1


def _rows(args: argparse.Namespace, task: Any) -> list:
    from ftlab.rows import read_rows
    from ftlab.task import DATA

    if args.trainer == "general":
        return _picked(args.row, read_rows(DATA / "general" / "train.jsonl")[0], "general prompts")
    return _picked(args.row, [row for split in ("validation", "train", "test") for row in task.rows(split)], task.name)


def _pairs(args: argparse.Namespace, task: Any) -> list:
    from ftlab.train.preference import read_pairs

    path = args.pairs or task.folder / PAIRS
    if not path.is_file():
        raise UsageError(
            f"--trainer {args.trainer}: expected a file with pairs of answers, found none at {path}; give --pairs FILE."
        )
    return _picked(args.row, read_pairs(path), path.name)


def _picked(ids: list[str] | None, every: list, place: str) -> list:
    """The rows with these ids, in their order; the first of all without."""
    if not ids:
        return every[:1]
    known = {row.id: row for row in every}
    if missing := [name for name in ids if name not in known]:
        raise UsageError(f"--row: expected ids of rows in {place} (such as {every[0].id}), found none called {', '.join(missing)}.")
    return [known[name] for name in dict.fromkeys(ids)]


def _save_figure(path: Path, drawing: tuple[str, dict]) -> None:
    from ftlab.plots import inspection_figure, xray_figure

    figure = {"inspection": inspection_figure, "xray": xray_figure}[drawing[0]](drawing[1])
    try:
        figure.savefig(path, dpi=110)
    except ValueError as error:
        raise DataError(f"{path}: expected a name that ends in .png, .svg or .pdf ({error}).") from None
