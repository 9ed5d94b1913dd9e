"""`ftlab data check|coverage|dedupe|noise|mix|feedback`: the faces of `ftlab.datatools`."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from ftlab.errors import DataError, UsageError

_FOLDER = "a built-in set or a folder with rows"


def add_commands(commands: Any) -> None:
    """Add the command `data` and its own commands to the parser of `ftlab`."""
    data = commands.add_parser("data", help="check a task's rows, show their coverage, thin them out, add noise or other rows")
    tools = data.add_subparsers(dest="tool", required=True, metavar="TOOL")

    check = _tool(
        tools, "check", _check, "duplicates, leakage, templates, personal data, doubtful labels; exit 1 if not clean", "+"
    )
    check.add_argument("--threshold", type=float, default=0.8, help="similarity from which two messages are near (default: 0.8)")
    check.add_argument(
        "--template-share", type=float, default=0.02, help="share of rows from which a wording counts (default: 0.02)"
    )
    check.add_argument(
        "--embedding",
        type=float,
        default=0.0,
        metavar="COSINE",
        help="also tell rows of one meaning across sets, from this on (try 0.9)",
    )
    check.add_argument("--show", type=int, default=5, metavar="N", help="findings only to be looked at, of each kind (default: 5)")

    coverage = _tool(tools, "coverage", _coverage, "rows by class, first tag, language and length; empty cells by name", "+")
    coverage.add_argument("--file", default="train", metavar="NAME", help="train (default), another file's name, or all")

    dedupe = _tool(tools, "dedupe", _dedupe, "write the rows without repetitions and copies of held-out rows")
    dedupe.add_argument("--threshold", type=float, default=0.8, help="similarity from which two messages are near (default: 0.8)")

    noise = _tool(tools, "noise", _noise, "write the rows as hurried people would type them, labelled values intact", file="test")
    noise.add_argument("--rate", type=float, default=0.3, help="probability of each kind of noise in a row (default: 0.3)")
    noise.add_argument("--kinds", metavar="A,B", help="only these kinds (default: all)")

    mix = _tool(tools, "mix", _mix, "write the rows with others among them")
    mix.add_argument(
        "--with", dest="source", default="general", metavar="SOURCE", help="a built-in set, folder or file (default: general)"
    )
    mix.add_argument("--share", type=float, required=True, help="share of other rows in the result")
    _add_feedback(tools)


def _add_feedback(tools: Any) -> None:
    parser = tools.add_parser(
        "feedback", help="what a tuned model gets wrong on validation rows, and a file for the rows that are missing"
    )
    parser.add_argument(
        "folder", type=Path, metavar="RUN", help="a run or adapter folder, or what ftlab eval --json wrote of validation rows"
    )
    parser.add_argument("--task", help="a built-in task or a task folder (default: the adapter's)")
    parser.add_argument("--out", type=Path, required=True, metavar="OUT.jsonl", help="unfinished rows for a person to write")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything that was found here")
    parser.set_defaults(run=_feedback, after_stop="")


def _tool(tools: Any, name: str, run: Any, about: str, folders: str | None = None, file: str = "train") -> argparse.ArgumentParser:
    """A parser with what the tools share; without `folders` it takes one folder and writes rows."""
    parser = tools.add_parser(name, help=about)
    parser.add_argument("taskdir", metavar="TASKDIR", nargs=folders, help=_FOLDER)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything that was found or done here")
    if not folders:
        parser.add_argument(
            "--out", type=Path, required=True, metavar="OUT.jsonl", help="the resulting rows; never one of the folder's files"
        )
        parser.add_argument("--file", default=file, metavar="NAME", help=f"which of the folder's files (default: {file})")
    if name != "coverage":
        parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    parser.set_defaults(run=run, after_stop="")
    return parser


def _check(args: argparse.Namespace) -> int:
    from ftlab.artifact import writer
    from ftlab.datatools.check import Limits, check_sets, report_text
    from ftlab.datatools.sets import load_sets

    if args.show < 0:
        raise UsageError(f"--show: expected 0 or more, found {args.show}.")
    limits = Limits(similarity=args.threshold, template_share=args.template_share, meaning=args.embedding, seed=args.seed)
    write, results = writer(args.json), []
    for sets in list(map(load_sets, args.taskdir)):  # all folders are read before the first is worked on
        results.append(check_sets(sets, limits))
        print(report_text(results[-1], args.show))
    write(results)
    return 0 if all(result["clean"] for result in results) else 1


def _coverage(args: argparse.Namespace) -> None:
    from ftlab.artifact import writer
    from ftlab.datatools.coverage import coverage, coverage_text
    from ftlab.datatools.sets import load_sets

    write = writer(args.json)
    results = [coverage(sets, args.file) for sets in map(load_sets, args.taskdir)]
    print("\n\n".join(map(coverage_text, results)))
    write(results)


def _opened(args: argparse.Namespace, source: Path | None = None) -> tuple:
    """(the folder's sets, what writes rows to --out, what writes --json); --out is refused before any work."""
    from ftlab.artifact import write_lines, writer
    from ftlab.datatools.lines import refuse_in_place
    from ftlab.datatools.sets import load_sets

    sets = load_sets(args.taskdir)
    refuse_in_place(args.out, sets.folder, source)
    return sets, writer(args.out, write_lines), writer(args.json)


def _dedupe(args: argparse.Namespace) -> None:
    from ftlab.datatools.check import Limits
    from ftlab.datatools.dedupe import REASONS, dedupe

    limits = Limits(similarity=args.threshold)
    sets, write_rows, write = _opened(args)
    kept, dropped, twins = dedupe(sets, args.file, limits.similarity, args.seed)
    write_rows(kept)
    reasons = Counter(drop.reason for drop in dropped)
    told = [{"where": d.where, "reason": d.reason, "kept": d.kept, "similarity": d.similarity} for d in dropped]
    write({"kept": len(kept), "dropped": told, "reasons": dict(reasons), "twins": twins})
    print(f"{args.out}: {len(kept)} rows kept, {len(dropped)} dropped; {twins} pairs of twins with different answers stay")
    for reason, says in REASONS.items():
        print(f"  {reasons[reason]:>5} {says}")
        for drop in dropped:
            if drop.reason == reason:
                print(f"        {drop.where}, {drop.similarity:.2f} alike to {drop.kept}")


def _noise(args: argparse.Namespace) -> None:
    from ftlab.datatools.noise import KINDS, add_noise

    sets, write_rows, write = _opened(args)
    kinds = args.kinds.split(",") if args.kinds else list(KINDS)
    rows, counts = add_noise(sets, args.file, args.rate, kinds, args.seed)
    write_rows(rows)
    write({"seed": args.seed, "rate": args.rate, **counts})
    print(f"{args.out}: {counts['rows']} rows, {counts['changed']} of them changed")
    for name, n in counts["kinds"].items():
        print(f"  {n:>5} with {name}")
    for why, n in counts["as_they_were"].items():
        print(f"  {n:>5} as they were: {why}")


def _mix(args: argparse.Namespace) -> None:
    from ftlab.datatools.mix import mix, source_file

    source = source_file(args.source)
    sets, write_rows, write = _opened(args, source)
    rows, counts = mix(sets, source, args.share, args.file, args.seed)
    write_rows(rows)
    write({"seed": args.seed, "share": counts["mixed"] / len(rows), **counts})
    print(
        f"{args.out}: {counts['own']} rows of {sets.name} and {counts['mixed']} of {args.source}, {100 * counts['mixed'] / len(rows):.1f} %"
    )
    for name, says in (
        ("unlabelled", "mixed-in rows have no output; a task's train.jsonl needs one in each"),
        ("other_form", "mixed-in rows have an output that this task's schema does not allow"),
        ("passed_over", "rows of the source were passed over: their message stands in the folder"),
    ):
        if counts[name]:
            print(f"  {counts[name]:>5} {says}")


def _feedback(args: argparse.Namespace) -> None:
    from ftlab.artifact import write_lines, writer
    from ftlab.datatools.feedback import as_dict, blanks, clusters, feedback_text
    from ftlab.datatools.lines import refuse_in_place
    from ftlab.task import load_task

    read = _evaluation if args.folder.is_file() else _answered
    name = args.task or _adapter_lineage(args.folder).get("task")
    if not name:
        raise UsageError(f"{args.folder}: expected --task, since nothing there says which task it is about.")
    task = load_task(name)
    refuse_in_place(args.out, task.folder)
    write_rows, write = writer(args.out, write_lines), writer(args.json)
    rows = task.rows("validation")
    found = clusters(task, rows, read(args.folder, task))
    proposed = blanks(task, found)
    write_rows(proposed)
    write(as_dict(found, rows))
    print(feedback_text(found, rows))
    print(f"{args.out}: {len(proposed)} rows to write; each says what kind of message is missing")


def _adapter(run: Path) -> Path:
    return run / "adapter" if (run / "adapter").is_dir() else run


def _adapter_lineage(run: Path) -> dict:
    from ftlab.artifact import read_lineage

    return {} if run.is_file() else read_lineage(_adapter(run))


def _evaluation(path: Path, task: Any) -> list[dict]:
    """The records of an evaluation that `ftlab eval --json` wrote."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))["rows"]
        ids = [record["id"] for record in records]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected what ftlab eval --json writes, found something else ({error!r}).") from None
    if set(ids) & {row.id for row in task.rows("test")}:
        raise UsageError(f"{path}: expected validation rows, found rows of the frozen test set, which nothing may be learnt from.")
    return records


def _answered(run: Path, task: Any) -> list[dict]:
    """The validation rows answered by the adapter of a run, and checked."""
    from ftlab.artifact import apply_adapter
    from ftlab.evaluate import evaluate_tuned
    from ftlab.models import EMBEDDED, load_model

    lineage = _adapter_lineage(run)
    loaded = load_model(lineage.get("base", {}).get("model", EMBEDDED))
    apply_adapter(loaded, _adapter(run))
    limit = lineage.get("config", {}).get("max_new_tokens", 160)
    return evaluate_tuned(task, loaded, task.rows("validation"), max_new_tokens=limit)["rows"]
