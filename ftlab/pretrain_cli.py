"""`ftlab pretrain` and `ftlab pretrain-study`: the faces of `corpus`, `train.pretrain`, `pretrain_study` and `continued_study`."""

import argparse
from pathlib import Path
from typing import Any

SETTINGS = {  # of `ftlab.train.pretrain_settings.PretrainConfig`, that options override; their reasons are printed before training
    "size": (str, "the model, by its parameters: 0.1M to 3M"),
    "objective": (str, "next-token, fill-in-the-middle or masked"),
    "vocabulary": (int, "tokens of the tokenizer at most"),
    "tokens": (int, "tokens trained on in all"),
    "block_tokens": (int, "tokens that are seen at once"),
    "batch_blocks": (int, "blocks per step"),
    "micro_blocks": (int, "blocks computed at once: less memory, the same result"),
    "learning_rate": (float, "the highest rate"),
    "fact_share": (float, "share of the tokens that state invented facts; 0 means none"),
    "measurements": (int, "how often the loss is measured"),
    "seed": (int, "of everything that is drawn"),
}
CONTINUED = "continued"  # the study that has settings of its own: those of `ftlab.continued_study.StudyConfig`
CONTINUED_SETTINGS = {
    "model": (str, "of continued: begin with this model instead of a small one that is pretrained first"),
    "task": (str, "of continued: write (runbooks from English) or read (them as JSON)"),
    "sft_tokens": (int, "of continued: tokens of tuning that follow continued pretraining, whose own are --tokens"),
}
STUDY_SETTINGS = {name: SETTINGS[name] for name in ("size", "tokens", "vocabulary", "block_tokens", "micro_blocks")}
_AGAIN = "Run the same command with --resume to go on."


def add_commands(commands: Any) -> None:
    """Add the commands `pretrain` and `pretrain-study` to the parser of `ftlab`."""
    train = commands.add_parser("pretrain", help="train a small model from nothing on text of this machine, a folder or a data set")
    _text_options(train)
    train.add_argument("--profile", default="cpu", help="smoke or cpu (default)")
    add_settings(train, SETTINGS)
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the model, which --model takes anywhere")
    train.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    train.set_defaults(run=_pretrain, after_stop=_AGAIN)

    study = commands.add_parser(
        "pretrain-study",
        help="at equal compute: how much text, how clean, how diverse; filling gaps; scaling; continued pretraining before tuning",
    )
    study.add_argument("kind", choices=("amount", "noise", "diversity", "fill", "scaling", "all", CONTINUED), metavar="KIND",
                       help="amount, noise, diversity, fill, scaling or all of these; or continued")  # fmt: skip
    _text_options(study)
    study.add_argument("--profile", default="cpu", help="smoke or cpu (default); of continued also embedded (smollm2-135m)")
    study.add_argument("--seeds", type=int, help="trainings of each arm (default: 5; continued: 3; scaling and embedded: 1)")
    add_settings(study, STUDY_SETTINGS | CONTINUED_SETTINGS)
    study.add_argument(
        "--out",
        type=Path,
        default=Path("runs") / "pretrain-study",
        metavar="DIR",
        help="folder for text and models (default: %(default)s)",
    )
    study.add_argument("--json", type=Path, metavar="OUT", help="write all figures as one JSON object here")
    study.add_argument("--figures", type=Path, metavar="DIR", help="draw what was found into this folder")
    study.set_defaults(run=_study, after_stop="Run the same command to go on; finished arms are kept.")


def _text_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--corpus",
        default="packages",
        metavar="TEXT",
        help="packages (documentation of what is installed here; default), a folder or file of text, or hub:ID[:CONFIG]",
    )
    parser.add_argument("--limit-mb", type=float, default=0, help="megabytes of text at most (default: 0, all of it)")


def add_settings(parser: argparse.ArgumentParser, settings: dict) -> None:
    """An option for each setting, {name: (type, what it is)}; left out, it is the profile's."""
    for name, (kind, about) in settings.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{about} (default: the profile's)")


def _given(args: argparse.Namespace, settings: dict) -> dict:
    return {name: getattr(args, name) for name in settings}


def _pretrain(args: argparse.Namespace) -> None:
    from ftlab.corpus import corpus_text
    from ftlab.train.pretrain import control_text, pretrain, shared_corpus
    from ftlab.train.pretrain_settings import pretrain_config

    config = pretrain_config(args.profile, **_given(args, SETTINGS))
    corpus, first = shared_corpus(args.corpus, args.out / "corpus", limit_mb=args.limit_mb, reuse=args.resume)
    say = print if first else lambda text: None
    say(corpus_text(corpus))
    lineage = pretrain(corpus, config, args.out, resume=args.resume)
    if first:
        from ftlab.plots.pretraining import pretraining_curve

        pretraining_curve(lineage).savefig(args.out / "pretraining.png")
    training = lineage["training"]
    say("\n".join(control_text(lineage)))
    say(
        f"{args.out}: {training['parameters']:,} parameters, {training['tokens']:,} tokens in {training['seconds'] / 60:.1f} minutes, "
        f"perplexity {training['curve'][-1]['perplexity']:.1f}; take it anywhere with --model {args.out}"
    )


def _study(args: argparse.Namespace) -> None:
    from ftlab.artifact import writer
    from ftlab.corpus import HUB, corpus_text, gather
    from ftlab.errors import UsageError
    from ftlab.pretrain_study import pretrain_study, study_text

    own = {name: value for name, value in _given(args, CONTINUED_SETTINGS).items() if value is not None}
    if own and args.kind != CONTINUED:
        raise UsageError(f"--{next(iter(own)).replace('_', '-')}: expected the study {CONTINUED}, found {args.kind}; leave it out.")
    write = writer(args.json)
    corpus = gather(args.corpus, args.out / "corpus", limit_mb=args.limit_mb, reuse=args.corpus.startswith(HUB))
    print(corpus_text(corpus))
    if args.kind == CONTINUED:
        _continued(args, corpus, write, own)
        return
    results = pretrain_study(
        args.kind, corpus, args.out, profile_name=args.profile, seeds=args.seeds, **_given(args, STUDY_SETTINGS)
    )
    write(results)
    print(study_text(results))
    if args.figures:
        _draw(results, args.figures)


def _continued(args: argparse.Namespace, corpus: Any, write: Any, own: dict) -> None:
    from ftlab.continued_study import continued_study, continued_text

    out = args.out / CONTINUED
    found = continued_study(corpus, out, profile_name=args.profile, seeds=args.seeds, **own, **_given(args, STUDY_SETTINGS))
    write(found)
    print(continued_text(found))
    if args.figures:
        from ftlab.plots.continued import continued_effects

        args.figures.mkdir(parents=True, exist_ok=True)
        continued_effects(found).savefig(args.figures / f"{CONTINUED}.png")


def _draw(results: dict, folder: Path) -> None:
    from ftlab.plots.pretraining import effects, scaling

    folder.mkdir(parents=True, exist_ok=True)
    if any("effects" in found for found in results.values()):
        effects(results).savefig(folder / "effects.png")
    if "scaling" in results:
        scaling(results["scaling"]).savefig(folder / "scaling.png")
