"""`ftlab continue-pretrain` and `ftlab runbook`: the faces of `train.continued`, `runbook` and `runbook_task`."""

import argparse
from pathlib import Path
from typing import Any

from ftlab.pretrain_cli import add_settings

SETTINGS = {  # of `ftlab.train.continued.ContinueConfig`, that options override; their reasons are printed before training
    "method": (str, "full (every weight; default) or lora"),
    "tokens": (int, "tokens trained on in all, general ones included"),
    "general_share": (float, "share of general text, against forgetting; 0 means none"),
    "block_tokens": (int, "tokens that are seen at once"),
    "batch_blocks": (int, "blocks per step"),
    "micro_blocks": (int, "blocks computed at once: less memory, the same result"),
    "learning_rate": (float, "the highest rate"),
    "rank": (int, "LoRA rank"),
    "measurements": (int, "how often the loss is measured"),
    "seed": (int, "of everything that is drawn"),
}
FILE_RUNBOOKS = 1000  # in one file of text


def add_commands(commands: Any) -> None:
    """Add the commands `continue-pretrain` and `runbook` to the parser of `ftlab`."""
    train = commands.add_parser(
        "continue-pretrain", help="go on pretraining a model on text of a domain, some general text mixed in"
    )
    train.add_argument("--model", help="tiny, smollm2-135m (default), a hub id or a local folder")
    train.add_argument("--corpus", required=True, metavar="TEXT",
                       help="the domain: runbook (an invented notation), a folder or file of text, or hub:ID[:CONFIG]")  # fmt: skip
    train.add_argument("--prose", action="store_true",
                       help="leave out of the domain what does not read as text, and near repetitions, as pretrain does")  # fmt: skip
    train.add_argument("--general", default="packages", metavar="TEXT",
                       help="the general text: packages (documentation of what is installed here; default), or as --corpus")  # fmt: skip
    train.add_argument("--limit-mb", type=float, default=0, help="megabytes of each text at most (default: 0, all of it)")
    train.add_argument("--profile", default="cpu", help="smoke, tiny (a model that pretrain made) or cpu (default)")
    add_settings(train, SETTINGS)
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the model, which --model takes anywhere")
    train.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    train.set_defaults(run=_continue, after_stop="Run the same command with --resume to go on.")

    runbook = commands.add_parser("runbook", help="the invented runbook language: make text and tasks, or check a file of runbooks")
    actions = runbook.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = actions.add_parser("make", help="write DIR/text, and the task folders DIR/write and DIR/read")
    make.add_argument("folder", type=Path, metavar="DIR")
    make.add_argument("--documents", type=int, default=20_000, help="runbooks of the text (default: 20000)")
    make.add_argument("--rows", type=int, default=256, help="training rows of each task (default: 256)")
    make.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    make.set_defaults(run=_make, after_stop="")
    check = actions.add_parser("check", help="say of each line whether it is a valid runbook, and what follows from it")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_check, after_stop="")


def _continue(args: argparse.Namespace) -> None:
    from ftlab.corpus import corpus_text
    from ftlab.models import EMBEDDED, load_model
    from ftlab.train.continued import continue_config, continue_pretrain, losses_text
    from ftlab.train.pretrain import shared_corpus

    config = continue_config(args.profile, **{name: getattr(args, name) for name in SETTINGS})
    same = {"limit_mb": args.limit_mb, "reuse": args.resume}
    domain, first = shared_corpus(args.corpus, args.out / "corpus" / "domain", prose=args.prose, **same)
    general, _ = shared_corpus(args.general, args.out / "corpus" / "general", **same)
    say = print if first else lambda text: None
    say(f"{corpus_text(domain)}\n{corpus_text(general)}")
    lineage = continue_pretrain(load_model(args.model or EMBEDDED), domain, general, config, args.out, resume=args.resume)
    if first:
        from ftlab.plots.continued import continued_curve

        continued_curve(lineage).savefig(args.out / "pretraining.png")
    minutes = lineage["training"]["seconds"] / 60
    say(losses_text(lineage["losses"]))
    say(f"{args.out}: {lineage['training']['tokens']:,} tokens in {minutes:.1f} minutes; take it anywhere with --model {args.out}")


def _make(args: argparse.Namespace) -> None:
    from ftlab.errors import UsageError
    from ftlab.runbook import documents
    from ftlab.runbook_task import KINDS, write_task
    from ftlab.task import SPLITS, load_task

    if args.rows < 1:
        raise UsageError(f"--rows: expected 1 or more, found {args.rows}.")
    tasks = [load_task(write_task(args.folder / kind, kind, train=args.rows, seed=args.seed)) for kind in KINDS]
    kept_apart = {row.output["runbook"] for split in SPLITS for row in tasks[0].rows(split)}  # those to read are the same
    texts = list(documents(args.documents, args.seed, without=kept_apart))
    (args.folder / "text").mkdir(exist_ok=True)
    for start in range(0, len(texts), FILE_RUNBOOKS):
        path = args.folder / "text" / f"runbooks-{start // FILE_RUNBOOKS}.txt"
        path.write_text("\n\n".join(texts[start : start + FILE_RUNBOOKS]) + "\n", encoding="utf-8")
    size = sum(len(text) + 2 for text in texts)
    print(
        f"{args.folder}: text of {len(texts)} runbooks ({size / 1e6:.1f} MB); tasks write and read of {args.rows} training rows each"
    )


def _check(args: argparse.Namespace) -> int:
    from ftlab.errors import DataError
    from ftlab.runbook import check, facts

    try:
        lines = args.file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise DataError(f"{args.file}: expected a UTF-8 text file of runbooks, a line each; save it as UTF-8.") from None
    wrong = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found, where = check(line.strip()), f"{args.file.name}:{number}"
        wrong += not found.valid
        if found.valid:
            told = facts(found.book)
            print(f"{where}: valid; owner {told['owner']}, urgency {told['urgency']}, when {told['trigger']}; {told['steps']} steps, "
                  f"{told['minutes']} minutes, {told['longest']} at most; may call {', '.join(told['calls']) or 'nobody'}")  # fmt: skip
        else:
            print(f"{where}: {'; '.join(found.faults)}")
    return 1 if wrong else 0
