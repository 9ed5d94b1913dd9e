"""`ftlab dpo`, `conduct`, `reward`, `rl` and `preference`: tuning by pairs and by rewards, and what it did. Thin calls."""

import argparse
import json
from pathlib import Path
from typing import Any

SETTINGS = {  # of each configuration, that options override
    "dpo": {
        "objective": str, "learning_rate": float, "epochs": int, "beta": float, "sft_weight": float, "rank": int, "batch_size": int,
        "pairs": int, "validation_pairs": int, "watch_every": int, "max_length": int, "memory_limit": int, "seed": int,
    },
    "reward": {
        "learning_rate": float, "epochs": int, "rank": int, "last_layers": int, "batch_size": int, "pairs": int,
        "validation_pairs": int, "max_length": int, "log_every": int, "seed": int,
    },
    "rl": {
        "keyword": str, "learning_rate": float, "steps": int, "prompts": int, "generations": int, "temperature": float,
        "kl": float, "max_new_tokens": int, "rank": int, "rows": int, "validation_rows": int, "max_length": int, "seed": int,
    },
}  # fmt: skip
AGAIN = "Run the same command with --resume to go on."


def add_commands(commands: Any) -> None:
    """Add these commands to the parser of `ftlab`."""
    dpo = commands.add_parser(
        "dpo", help="tune on pairs of replies: the chosen over the rejected, or the chosen alone at equal tokens"
    )
    _training(dpo, "dpo")
    dpo.add_argument("--trainer", choices=("auto", "trl"), default="auto", help="trl: its DPOTrainer, for GPUs and several devices")
    dpo.set_defaults(run=_dpo, after_stop=AGAIN)

    conduct = commands.add_parser(
        "conduct", help="policy under pressure, form and general ability of several adapters, side by side"
    )
    conduct.add_argument("--task", default="support_reply", help="a built-in task or a task folder (default: support_reply)")
    conduct.add_argument("--model", help="tiny, tiny-pretrained, smollm2-135m (default), a hub id or a local folder")
    conduct.add_argument(
        "--adapter", type=Path, action="append", required=True, help="an adapter folder; the others are compared with the first"
    )
    conduct.add_argument("--base", action="store_true", help="the untuned model too")
    conduct.add_argument("--split", choices=("validation", "test"), default="validation", help="test: for what is final")
    conduct.add_argument("--limit", type=int, default=0, help="prompts of each kind (default: all)")
    conduct.add_argument("--json", type=Path, metavar="OUT", help="write all figures as one JSON object here")
    conduct.set_defaults(run=_conduct, after_stop="Answers that were finished are kept.")

    reward = commands.add_parser("reward", help="a reward model: train it on pairs, judge and use it")
    parts = reward.add_subparsers(dest="part", required=True, metavar="PART")
    train = parts.add_parser("train", help="train on pairs.jsonl")
    _training(train, "reward")
    train.set_defaults(run=_reward_train, after_stop=AGAIN)
    score = parts.add_parser("score", help="how well it tells held-out pairs apart, or the reward of each reply of a file")
    _reward_model(score)
    score.add_argument("file", type=Path, nargs="?", metavar="FILE.jsonl", help='rows {"id", "input", "output": raw text}')
    score.add_argument("--split", choices=("validation", "test"), default="validation", help="test: pairs_test.jsonl")
    score.set_defaults(run=_reward_score, after_stop="")
    best = parts.add_parser("best-of-n", help="draw replies, let it choose, and score the choice by the strict ladder")
    _reward_model(best)
    best.add_argument("--n", type=int, default=8, help="replies drawn to each message (default: 8)")
    best.add_argument("--rows", type=int, default=60, help="messages (default: 60; 0 means all)")
    best.add_argument("--split", choices=("validation", "test"), default="validation")
    best.add_argument("--temperature", type=float, default=1.0)
    best.add_argument("--max-new-tokens", type=int, default=160)
    best.add_argument("--seed", type=int, default=0)
    best.set_defaults(run=_best_of_n, after_stop="")

    rl = commands.add_parser("rl", help="reinforcement learning with a reward that a program checks, and one that can be hacked")
    _training(rl, "rl")
    rl.add_argument("--reward", choices=("ladder", "keyword", "both"), default="ladder", help="both: one run each, compared")
    rl.add_argument("--json", type=Path, metavar="OUT", help="with --reward both: write the comparison here")
    rl.set_defaults(run=_rl, after_stop=AGAIN)

    gathered = commands.add_parser("preference", help="one result out of what dpo, reward, conduct and rl left in a folder")
    gathered.add_argument("folder", type=Path, metavar="FOLDER", help="as `make preference` fills it")
    gathered.add_argument("--json", type=Path, metavar="OUT", help="write the result as one JSON object here")
    gathered.set_defaults(run=_preference, after_stop="")


def _training(parser: argparse.ArgumentParser, method: str) -> None:
    parser.add_argument("--task", default="support_reply", help="a built-in task or a task folder (default: support_reply)")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is trained")
    parser.add_argument("--model", help="tiny, tiny-pretrained, smollm2-135m, a hub id or a local folder (default: the profile's)")
    _start(parser)
    parser.add_argument("--profile", default="cpu", help="smoke or cpu (default)")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    for name, kind in SETTINGS[method].items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help="overrides the profile's value")


def _start(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--adapter", type=Path, help="adapter to start from (default: the one shipped with the task)")
    which.add_argument("--base", action="store_true", help="start from the untuned model")


def _reward_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="REWARD", help="what ftlab reward train wrote")
    parser.add_argument("--task", default="support_reply", help="a built-in task or a task folder (default: support_reply)")
    parser.add_argument("--model", help="the model it was trained on (default: as its lineage says)")
    _start(parser)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures here")


def _opened(args: argparse.Namespace) -> tuple[Any, Path | None]:
    """(the task, the adapter to start from)."""
    from ftlab.artifact import shipped_adapter
    from ftlab.task import load_task

    task = load_task(args.task)
    return task, None if args.base else shipped_adapter(task, args.adapter)


def _changes(args: argparse.Namespace, method: str) -> dict:
    return {name: getattr(args, name) for name in SETTINGS[method]}


def _dpo(args: argparse.Namespace) -> None:
    from ftlab.device import is_main
    from ftlab.errors import UsageError
    from ftlab.models import load_model
    from ftlab.prefer import DPO_PROFILES, dpo_config, tune_on_pairs

    if args.trainer == "trl" and args.resume:
        raise UsageError("--trainer trl: expected no --resume, since it keeps no checkpoints here; leave it out.")
    task, adapter = _opened(args)
    config = dpo_config(args.profile, **_changes(args, "dpo"))
    loaded = load_model(args.model or DPO_PROFILES[args.profile].model)
    options = {"adapter": adapter, "profile_name": args.profile, "trainer": args.trainer, "resume": args.resume}
    training = tune_on_pairs(task, loaded, config, args.out, **options)["training"]
    if not is_main():
        return
    for point in training.get("trace", []):
        print(
            f"step {point['step']:>4}: log-probability of chosen {point['chosen_logp']:.1f}, of rejected {point['rejected_logp']:.1f}, "
            f"margin {point['margin']:.2f} nats, the chosen one gained more in {100 * point['reward_accuracy']:.0f} %"
        )
    print(f"{args.out}: tuned on {training['pairs']} pairs ({config.objective}); see what it did with ftlab conduct")


def _conduct(args: argparse.Namespace) -> None:
    from ftlab.artifact import writer
    from ftlab.errors import UsageError
    from ftlab.models import EMBEDDED
    from ftlab.prefer import conduct
    from ftlab.task import load_task

    arms: dict[str, Path | None] = {adapter.resolve().name: adapter for adapter in args.adapter}
    if len(arms) < len(args.adapter):
        raise UsageError("--adapter: expected folders of different names, which stand for them in the result; rename one.")
    arms |= {"base": None} if args.base else {}
    task, write = load_task(args.task), writer(args.json)
    found = conduct(task, arms, model=args.model or EMBEDDED, split=args.split, limit=args.limit)
    write(found)
    first = next(iter(arms))
    for name, tests in found["paired"].items():
        for kind, test in tests.items():
            shown = {"general": test} if kind == "general" else {score: test[score] for score in ("unsafe", "schema_valid")}
            for score, t in shown.items():
                print(
                    f"{name} against {first}, {kind}, {score}: {100 * t['difference']:+.1f} points, p = {t['p']:.3f} (n = {t['n']})"
                )


def _reward_train(args: argparse.Namespace) -> None:
    from ftlab.models import load_model
    from ftlab.reward import REWARD_PROFILES, reward_config, train_reward

    task, adapter = _opened(args)
    config = reward_config(args.profile, **_changes(args, "reward"))
    loaded = load_model(args.model or REWARD_PROFILES[args.profile].model)
    options = {"adapter": adapter, "profile_name": args.profile, "resume": args.resume}
    training = train_reward(task, loaded, config, args.out, **options)["training"]
    for point in training["curve"]:
        print("  ".join(f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in point.items()))
    print(f"{args.out}: a reward model from {training['pairs']} pairs; judge it with ftlab reward score {args.out}")


def _loaded_reward(args: argparse.Namespace) -> tuple[Any, Any, Path | None, str]:
    """(task, reward model, the adapter that it was trained on, the model's name)."""
    from ftlab.artifact import read_lineage
    from ftlab.models import EMBEDDED, load_model
    from ftlab.reward import load_reward

    task, adapter = _opened(args)
    name = args.model or read_lineage(args.folder).get("base", {}).get("model", EMBEDDED)
    return task, load_reward(load_model(name), args.folder, adapter=adapter), adapter, name


def _reward_score(args: argparse.Namespace) -> None:
    from ftlab.artifact import read_lineage, write_json, write_lines, writer
    from ftlab.reward import judge_task
    from ftlab.rows import raw_rows

    write = writer(args.json, write_lines if args.file else write_json)
    task, reward, _, _ = _loaded_reward(args)
    if args.file:
        rows = raw_rows(args.file, need_output=True)
        rewards = reward.score([task.conversation(row) for row, _ in rows], [record["output"] for _, record in rows])
        write([record | {"reward": r} for (_, record), r in zip(rows, rewards, strict=True)])
        for (row, _), r in zip(rows, rewards, strict=True):
            print(f"{r:+.3f}  {row.id}")
        return
    trained = read_lineage(args.folder)["config"]
    report = judge_task(task, reward, trained["pairs"], trained["validation_pairs"], split=args.split)
    write(report)
    print(json.dumps(report, ensure_ascii=False, indent=1))


def _best_of_n(args: argparse.Namespace) -> None:
    from ftlab.artifact import apply_adapter, writer
    from ftlab.bestofn import best_of_n, table_text
    from ftlab.models import load_model
    from ftlab.sample import Sampling
    from ftlab.task import stratified

    sampling, write = Sampling(args.temperature, args.seed), writer(args.json)
    task, reward, adapter, name = _loaded_reward(args)
    loaded = load_model(name)
    if adapter is not None:
        apply_adapter(loaded, adapter)
    rows = stratified(task.rows(args.split), args.rows or len(task.rows(args.split)), task.class_field)
    found = best_of_n(task, loaded, rows, reward.score, n=args.n, sampling=sampling, max_new_tokens=args.max_new_tokens)
    write(found)
    print(table_text(found))


def _rl(args: argparse.Namespace) -> None:
    from ftlab.artifact import writer
    from ftlab.errors import UsageError
    from ftlab.models import load_model
    from ftlab.rl import RL_PROFILES, hacking_study, outcome_line, rl_config, train_rl

    if args.json and args.reward != "both":
        raise UsageError(
            "--json: expected --reward both, whose comparison it is for; a single run's figures are in its lineage.json."
        )
    (task, adapter), changes = _opened(args), _changes(args, "rl")
    config = rl_config(args.profile, **changes)
    model = args.model or RL_PROFILES[args.profile].model
    if args.reward == "both":
        write = writer(args.json)
        write(hacking_study(task, args.out, adapter=adapter, model=model, profile_name=args.profile, resume=args.resume, **changes))
        return
    config = rl_config(args.profile, reward=args.reward, **changes)
    options = {"adapter": adapter, "profile_name": args.profile, "resume": args.resume}
    training = train_rl(task, load_model(model), config, args.out, **options)["training"]
    print(f"{args.out}: {outcome_line(training)}")


def _preference(args: argparse.Namespace) -> None:
    from ftlab.artifact import writer
    from ftlab.preference_study import gather, preference_text

    write = writer(args.json)
    found = gather(args.folder)
    write(found)
    print(preference_text(found))
