"""The command line. Each command is a thin call of the functions that notebooks and tests call too.

Exit status: 0 done, 1 bad data, 2 wrong use, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ftlab import (
    __version__,
    choose_cli,
    compare_cli,
    continue_cli,
    data_cli,
    inside_cli,
    newtask_cli,
    preference_cli,
    pretrain_cli,
)
from ftlab.bench import KINDS as BENCH_KINDS
from ftlab.device import leave_together
from ftlab.errors import FtlabError, UsageError
from ftlab.generate import ENGINES, STOPS
from ftlab.models import default_profile

SETTINGS = {  # of `ftlab.train.SftConfig`, that options override
    "method": str, "learning_rate": float, "epochs": int, "rank": int, "batch_size": int, "train_rows": int, "max_length": int,
    "patience": int, "seed": int, "last_layers": int, "text_weight": float, "general_rows": int, "memory_limit": int,
}  # fmt: skip
STUDY_OPTIONS = {
    "curve": ("profile",), "diversity": ("profile", "seeds", "rows"), "noise": (), "fresh": (),
    "methods": ("profile", "seeds", "rows", "methods", "split", "parts"), "head-start": ("model", "seeds"),
}  # fmt: skip
TEMPLATE_HELP = "chat template for a model without one, or in the place of its own: a jinja file, or plain"
STUDIES = {"growth": ("model",), "layers": ("task", "model", "rows", "rounds"), "cost": ("task",)}  # bench kind -> options it uses


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; print one sentence for a mistake of the user, never a traceback."""
    args = _parser().parse_args(argv)
    try:
        status = args.run(args) or 0
        leave_together()
        return status
    except FtlabError as error:
        print(f"ftlab {args.command}: {error}", file=sys.stderr)
        for problem in getattr(error, "problems", []):
            print(f"  {problem}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"ftlab {args.command}: stopped; what was finished is kept. {args.after_stop}", file=sys.stderr)
        return 130
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"ftlab {args.command}: {place}{error.strerror or error}; check the path and the space on the disk.", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ftlab", description="From a behaviour specification to a tuned, tested adapter.")
    parser.add_argument("--version", action="version", version=f"ftlab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="the whole main job on a task folder: baselines, training, evaluation, report")
    run.add_argument("taskdir", metavar="TASKDIR", help="a built-in task or a folder with schema.json and train.jsonl")
    _training_options(run)
    run.add_argument("--out", type=Path, help="run folder (default: runs/TASK)")
    run.add_argument("--adapter", type=Path, help="evaluate this adapter instead of training one")
    run.add_argument("--no-cache", action="store_true", help="generate every output anew")
    run.add_argument("--publish", type=Path, help="also write the results as TASK.json and TASK_rows.json into this folder")
    run.set_defaults(run=_run, after_stop="Run the same command with --resume to go on.")

    train = commands.add_parser("train", help="train an adapter, or with --method full all weights")
    train.add_argument("--task", required=True, help="a built-in task or a task folder")
    _training_options(train, rate=_rate)
    train.add_argument("--adapter", type=Path, help="adapter to go on from, of this task or another (default: new matrices)")
    train.add_argument("--out", type=Path, required=True, help="folder for the adapter (or model)")
    train.add_argument(
        "--trainer",
        choices=("auto", "trl"),
        default="auto",
        help="trl: its SFTTrainer, for GPUs and several devices (default: auto, which is trl with --profile gpu or several processes)",
    )
    train.set_defaults(run=_train, after_stop="Run the same command with --resume to go on.")

    check = commands.add_parser("check", help="check raw outputs by the strict ladder")
    check.add_argument("--task", required=True, help="a built-in task or a task folder")
    check.add_argument("file", type=Path, metavar="FILE.jsonl", help='rows {"id", "input", "output": raw text}')
    check.add_argument("--json", type=Path, metavar="OUT", help="write one JSON object per row here")
    check.set_defaults(run=_check, after_stop="")

    for name, about, action in (
        ("predict", "answer each row of a file", _predict),
        ("eval", "answer and score each row of a labelled file", _eval),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("--task", required=True, help="a built-in task or a task folder")
        command.add_argument("file", type=Path, metavar="FILE.jsonl")
        _model_options(command)
        if name == "predict":
            command.add_argument("--out", type=Path, required=True, metavar="OUT.jsonl", help='the rows with "output" added')
        else:
            command.add_argument("--json", type=Path, metavar="OUT", help="write all scores as one JSON object here")
        command.set_defaults(run=action, after_stop="")

    cost = commands.add_parser("cost", help="time a few steps here and predict minutes and memory of a training run")
    cost.add_argument("--task", required=True, help="a built-in task or a task folder")
    _training_options(cost, resume=False)
    cost.add_argument("--json", type=Path, metavar="OUT", help="write the prediction as one JSON object here")
    cost.set_defaults(run=_cost, after_stop="")

    bench = commands.add_parser(
        "bench", help="our path against the stock one; how cost grows, and how well it is predicted; last layers against all"
    )
    bench.add_argument("kind", choices=(*BENCH_KINDS, "all", *STUDIES))
    bench.add_argument("--task", help="a built-in task or a task folder (default: support_plan)")
    bench.add_argument("--model", help="tiny, tiny-pretrained, smollm2-135m (default), a hub id or a local folder")
    bench.add_argument("--rows", type=int, help="rows each side works on (default: enough for a steady figure)")
    bench.add_argument("--rounds", type=int, help="how often each side runs, in turn; seeds of layers (default: 3)")
    bench.add_argument("--json", type=Path, metavar="OUT", help="write all figures as one JSON object here")
    bench.set_defaults(run=_bench, after_stop="")

    study = commands.add_parser(
        "study",
        help="what data does to a tuned model: more rows, other rows or copies, noise; and the methods of tuning side by side",
    )
    study.add_argument("kind", choices=tuple(STUDY_OPTIONS))
    study.add_argument("--task", default="support_plan", help="a built-in task or a task folder (default: support_plan)")
    study.add_argument("--model", help="of head-start: folder of a small pretrained model")
    study.add_argument("--profile", help="settings of every training (default: long for curve, else cpu)")
    study.add_argument(
        "--seeds", type=int, help="trainings of each arm of diversity, of each method (default: 2), of head-start (5)"
    )
    study.add_argument("--rows", type=int, help="rows of each arm of diversity, of each method (default: 800, 600)")
    study.add_argument("--methods", help="which methods, with commas between (default: all that this machine can train)")
    study.add_argument("--split", help="rows that methods are scored on: validation (default) or test")
    study.add_argument("--parts", type=int, help="of methods: how many unfinished parts to do now (default: 0, all)")
    study.add_argument("--out", type=Path, default=Path("runs") / "study", help="folder for the adapters (default: runs/study)")
    study.add_argument("--json", type=Path, metavar="OUT", help="write all figures as one JSON object here")
    study.set_defaults(run=_study, after_stop="Run the same command to go on.")

    data_cli.add_commands(commands)
    inside_cli.add_commands(commands)
    choose_cli.add_commands(commands)
    compare_cli.add_commands(commands)
    pretrain_cli.add_commands(commands)
    continue_cli.add_commands(commands)
    preference_cli.add_commands(commands)
    newtask_cli.add_commands(commands)

    attempt = commands.add_parser("try", help="one message, base model and tuned model side by side")
    attempt.add_argument("text", metavar="TEXT")
    attempt.add_argument("--task", default="support_plan")
    attempt.add_argument("--model")
    attempt.add_argument("--chat-template", metavar="FILE", help=TEMPLATE_HELP)
    attempt.add_argument("--adapter", type=Path)
    attempt.set_defaults(run=_try, after_stop="")
    return parser


def _rate(text: str) -> float | str:
    return text if text == "auto" else float(text)


def _training_options(parser: argparse.ArgumentParser, resume: bool = True, rate: Callable[[str], float | str] = float) -> None:
    parser.add_argument("--model", help="tiny, tiny-pretrained, smollm2-135m, a hub id or a local folder (default: the profile's)")
    parser.add_argument("--chat-template", metavar="FILE", help=TEMPLATE_HELP)
    parser.add_argument("--profile", default=default_profile(), help="smoke, cpu (default), small, binder, long or gpu")
    if resume:
        parser.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    told = {"method": "what is trained: lora (default), lora-last, rslora, dora, full, or on a GPU qlora"}
    told |= {"learning_rate": "auto: chosen by short trainings on validation rows"} if rate is _rate else {}
    for name, kind in (SETTINGS | {"learning_rate": rate}).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=told.get(name, "overrides the profile's value"))


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="tiny, tiny-pretrained, smollm2-135m (default), a hub id or a local folder")
    parser.add_argument("--chat-template", metavar="FILE", help=TEMPLATE_HELP)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--adapter", type=Path, help="adapter folder (default: the one shipped with the task)")
    which.add_argument("--base", action="store_true", help="the untuned model")
    parser.add_argument("--prompt", choices=("short", "long"), help="default: short with an adapter, long with --base")
    parser.add_argument("--batch-size", type=int, help="prompts answered together (default: as many as memory allows, up to 32)")
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--no-cache", action="store_true", help="generate every output anew")
    parser.add_argument(
        "--engine", choices=ENGINES, default="auto", help="what computes the answers (default: auto, which is torch)"
    )
    parser.add_argument(
        "--stop", choices=STOPS, default="eos", help="json: also stop where a JSON object is complete (default: eos)"
    )
    parser.add_argument(
        "--constrain",
        choices=("auto", "copies", "none"),
        default="auto",
        help="copies: values that the rules want copied can only become pieces of the message (default: auto, which is copies for a tuned "
        "model where the task has such a rule and the engine can)",
    )


def _overrides(args: argparse.Namespace) -> dict:
    return {name: getattr(args, name) for name in SETTINGS}


def _run(args: argparse.Namespace) -> None:
    from ftlab.mainjob import run_main_job
    from ftlab.report import publish, write_report
    from ftlab.task import load_task

    task = load_task(args.taskdir)
    out = args.out or Path("runs") / task.name
    results = run_main_job(
        task,
        out=out,
        profile_name=args.profile,
        model=args.model,
        adapter=args.adapter,
        resume=args.resume,
        cache=not args.no_cache,
        chat_template=args.chat_template,
        **_overrides(args),
    )
    page = write_report(results, out)
    if args.publish:
        publish(out, args.publish, task.name)
    cost = results["cost"]
    print(f"\nReport: {page}  ({cost['total_seconds'] / 60:.1f} minutes, {cost['peak_memory_mb'] / 1000:.1f} GB at most)")


def _train(args: argparse.Namespace) -> None:
    from ftlab.device import is_main, machine
    from ftlab.mainjob import train_adapter
    from ftlab.models import load_model
    from ftlab.stock import check_quantised
    from ftlab.task import load_task
    from ftlab.train.rates import choose_rate
    from ftlab.train.settings import GPU, profile, sft_config

    by_trl = args.trainer == "trl" or args.profile == GPU or machine().processes > 1
    if by_trl and args.resume:
        raise UsageError(
            "--trainer trl (which --profile gpu and several processes take): expected no --resume, since trl's trainer keeps no "
            "checkpoints here; leave it out."
        )
    if args.adapter and (by_trl or args.method == "qlora" or args.learning_rate == "auto"):
        raise UsageError(
            "--adapter: expected our own trainer and a given rate, found trl's or --learning-rate auto; leave one of them out."
        )
    task, settings, auto = load_task(args.task), profile(args.profile), args.learning_rate == "auto"
    config = sft_config(args.profile, **_overrides(args) | ({"learning_rate": None} if auto else {}))
    check_quantised(config)

    def load():
        return load_model(args.model or settings.model, chat_template=args.chat_template)

    if auto:
        chosen = choose_rate(task, load, config, args.out)
        config = replace(config, learning_rate=chosen["learning_rate"])
    loaded = load()
    if by_trl:
        from ftlab.stock import train_trl

        train_trl(task, loaded, config, args.out, profile_name=args.profile)
        if is_main():
            print(f"{args.out}: the adapter after the last pass; score it with ftlab eval --adapter {args.out}")
        return
    lineage = train_adapter(task, loaded, config, args.out, profile_name=args.profile, adapter=args.adapter, resume=args.resume)
    training = lineage["training"]
    best = next(point for point in training["curve"] if point["epoch"] == training["best_epoch"])
    what = "model" if config.method == "full" else "adapter"
    print(f"{args.out}: the {what} of pass {best['epoch']}, strict score {100 * best['strict']:.1f} % on validation rows")


def _cost(args: argparse.Namespace) -> None:
    from ftlab.artifact import writer
    from ftlab.cost import predict_cost
    from ftlab.models import load_model
    from ftlab.task import load_task
    from ftlab.train.settings import profile, sft_config

    task, settings = load_task(args.task), profile(args.profile)
    config = sft_config(args.profile, **_overrides(args))
    write = writer(args.json)
    cost = predict_cost(task, load_model(args.model or settings.model, chat_template=args.chat_template), config)
    write(cost)
    parts = ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in cost["parts"].items())
    print(f"{cost['steps']} steps, {cost['tokens']:,} tokens: about {cost['seconds'] / 60:.1f} minutes here ({parts})")
    if cost["peak_memory_mb"]:
        again = ", each layer computed again in the backward pass" if cost["checkpoint"] else ""
        print(f"about {cost['peak_memory_mb'] / 1000:.1f} GB at most, with {cost['micro_tokens']} tokens at once{again}")


def _bench(args: argparse.Namespace) -> None:
    from ftlab.artifact import writer
    from ftlab.bench import bench, cost_study, growth, layers_study, report

    given = {name: getattr(args, name) for name in ("task", "model", "rows", "rounds") if getattr(args, name) is not None}
    if unused := [name for name in given if name not in STUDIES.get(args.kind, given)]:
        raise UsageError(f"bench {args.kind}: expected no --{unused[0]}, which it does not use; leave it out.")
    write = writer(args.json)
    if args.kind == "growth":
        write(growth(**given))
    elif args.kind == "cost":
        write(cost_study(**given))
    elif args.kind == "layers":
        write(layers_study(**{"seeds" if name == "rounds" else name: value for name, value in given.items()}))
    else:
        found: dict[str, dict] = {}
        for kind in BENCH_KINDS if args.kind == "all" else (args.kind,):
            found[kind] = bench(kind, **given)
            write(found if args.kind == "all" else found[kind])  # after each kind: an hour's work is not lost to the last one
        print(report(found))


def _study(args: argparse.Namespace) -> None:
    from ftlab import head_start, methods, study
    from ftlab.artifact import writer
    from ftlab.task import load_task

    given = {name: getattr(args, name) for name in ("model", *STUDY_OPTIONS["methods"]) if getattr(args, name) is not None}
    if unused := [name for name in given if name not in STUDY_OPTIONS[args.kind]]:
        raise UsageError(f"study {args.kind}: expected no --{unused[0]}, which it does not use; leave it out.")
    given |= {"profile_name": given.pop("profile")} if "profile" in given else {}
    task, write = load_task(args.task), writer(args.json)
    if args.kind == "curve":
        write(study.learning_curve(task, args.out / task.name, **given))
    elif args.kind == "head-start":
        if args.model is None:
            raise UsageError(
                "study head-start: expected --model with a small pretrained model (ftlab pretrain makes one), found none."
            )
        results = head_start.head_start(task, out=args.out / task.name / "head-start", **given)
        write(results)
        print(head_start.head_start_text(results))
    elif args.kind == "diversity":
        write(study.diversity_study(task, args.out / task.name, **given))
    elif args.kind == "methods":
        given |= {"methods": given["methods"].split(",")} if "methods" in given else {}
        results = methods.methods_study(args.task, args.out / task.name / "methods", write=write, **given)
        print(methods.methods_table(results))
        if results["unfinished"]:
            print(
                f"{len(results['unfinished'])} part(s) are left: {', '.join(results['unfinished'])}; run the same command to go on."
            )
    else:
        write({"noise": study.noise_study, "fresh": study.fresh_study}[args.kind](task))


def _check(args: argparse.Namespace) -> None:
    from ftlab.artifact import write_lines
    from ftlab.evaluate import check_record
    from ftlab.rows import raw_rows
    from ftlab.task import load_task

    task = load_task(args.task)
    records = []
    for row, record in raw_rows(args.file, need_output=True):
        expected = record.get("expected") if isinstance(record.get("expected"), dict) else None
        records.append(check_record(row.id, task.checker.check(record["output"], row.text, lang=row.lang, expected=expected)))
    if args.json:
        write_lines(args.json, records)
    clean = sum(not r["labels"] for r in records)
    print(f"{clean} of {len(records)} outputs are clean")
    for label in ("safety", "format", "instruction", "knowledge"):
        print(f"  first cause {label:<12} {sum(r['first_cause'] == label for r in records)}")


def _loaded(args: argparse.Namespace, task) -> tuple:
    """(loaded model, which prompt) as the options say."""
    from ftlab.artifact import apply_adapter, shipped_adapter
    from ftlab.models import EMBEDDED, load_model

    for name in ("batch_size", "max_new_tokens"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')}: expected a number above 0, found {getattr(args, name)}.")
    folder = None if args.base else shipped_adapter(task, args.adapter)
    loaded = load_model(args.model or EMBEDDED, chat_template=args.chat_template)
    if folder:
        apply_adapter(loaded, folder)
    return loaded, args.prompt or ("long" if args.base else "short")


def _answers(args: argparse.Namespace, task, rows) -> list:
    from tqdm import tqdm

    from ftlab.outputs import cached_generate

    loaded, prompt = _loaded(args, task)
    conversations, copies = [task.conversation(row, prompt) for row in rows], _copies(args, task)
    with tqdm(total=len(rows), desc=args.command, unit="row") as bar:
        answers, reused = cached_generate(
            loaded, conversations, max_new_tokens=args.max_new_tokens, batch_size=args.batch_size, stop=args.stop, engine=args.engine,
            copies=copies, cache=not args.no_cache, progress=bar.update,
        )  # fmt: skip
    if reused:
        print(f"{reused} of {len(rows)} answers were generated before and come from the cache (--no-cache makes them anew)")
    if copies:
        kept = sum(a.held > 0 for a in answers)
        print(
            f"{kept} of {len(rows)} answers were kept from leaving the message in a copied value (--constrain none decodes freely)"
        )
    return answers


def _copies(args: argparse.Namespace, task):
    """The rules that answers are held to while they are written; None for free decoding."""
    from ftlab.constrain import CopyRules

    rules = CopyRules.of(task.rules)
    if args.constrain == "copies" and not rules:
        raise UsageError(
            f"--constrain copies: expected a task with a rule copied_from_input, found none in {task.name}; leave it out."
        )
    free = args.constrain == "none" or args.constrain == "auto" and (args.base or args.engine not in ("auto", "torch"))
    return None if free or not rules else rules


def _predict(args: argparse.Namespace) -> None:
    from ftlab.artifact import write_lines
    from ftlab.rows import raw_rows
    from ftlab.task import load_task

    task = load_task(args.task)
    pairs = raw_rows(args.file, need_output=False)
    answers = _answers(args, task, [row for row, _ in pairs])
    write_lines(args.out, [record | {"output": answer.text} for (_, record), answer in zip(pairs, answers, strict=True)])
    print(f"{args.out}: {len(answers)} answers, {sum(not a.ended for a in answers)} of them cut at {args.max_new_tokens} tokens")


def _eval(args: argparse.Namespace) -> None:
    from ftlab.artifact import write_json
    from ftlab.evaluate import evaluate_outputs
    from ftlab.mainjob import score_line
    from ftlab.rows import whole_rows
    from ftlab.task import load_task

    task = load_task(args.task)
    rows = whole_rows(args.file, labelled=True)
    evaluation = evaluate_outputs(task, rows, [answer.text for answer in _answers(args, task, rows)])
    if args.json:
        write_json(args.json, evaluation)
    print(score_line(evaluation))
    for cause, count in evaluation["first_causes"].items():
        print(f"  first cause {cause:<12} {count['k']} of {count['n']}")


def _try(args: argparse.Namespace) -> None:
    from ftlab.artifact import shipped_adapter
    from ftlab.sidebyside import side_by_side
    from ftlab.task import load_task

    task = load_task(args.task)
    adapter = shipped_adapter(task, args.adapter)
    for answer in side_by_side(task, [args.text], model=args.model, adapter=adapter, chat_template=args.chat_template):
        print(answer.as_text())


if __name__ == "__main__":
    sys.exit(main())
