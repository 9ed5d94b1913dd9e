"""Direct preference optimisation with LoRA: make the chosen of two answers likelier than the rejected one, measured from where the
model stands before, while a supervised term keeps the chosen answer likely in itself. Beside it, to compare with: supervised tuning on
the chosen answers alone, at as many tokens.

A micro-batch is one tree: what all prompts begin with, under it the rest of each prompt, under that its two answers. So the fast decoder
(`llama`) computes each prompt once for both answers, and its gradient is still exact. The untuned model's log-probabilities never
change, so they are computed once and kept in a file.

Source: Rafailov et al. (2023), Direct Preference Optimization, equation 7; the supervised term: Pang et al. (2024), Iterative Reasoning
Preference Optimization. The normalisation is that of trl 1.16's DPOTrainer with loss_type ["sigmoid", "sft"]; a test compares both.
"""

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from ftlab.errors import DataError, UsageError
from ftlab.generate import encode_example, shared_prefix_length
from ftlab.lora import add_lora
from ftlab.models import LoadedModel, fast_decoder
from ftlab.rows import as_messages, read_rows
from ftlab.task import check_frozen, dump_output
from ftlab.train.examples import Example
from ftlab.train.kept import read_kept, write_kept
from ftlab.train.loop import Run, make_folder, micro_batches
from ftlab.train.loss import AnswerLoss, DecoderLoss, logits_at
from ftlab.train.memory import plan_training
from ftlab.train.settings import check_numbers, decisive

REFERENCE = "reference.json"  # the log-probabilities before tuning, in the run's folder
OBJECTIVES = {
    "dpo": "the chosen reply over the rejected one, with a supervised term",
    "sft": "the chosen reply alone, at as many tokens",
}


@dataclass(frozen=True)
class DpoConfig:
    """Preference tuning with LoRA: units, meanings, reasons.

    Raises:
        UsageError: a value that cannot work.
    """

    objective: str = "dpo"  # one of OBJECTIVES
    learning_rate: float = 2e-4  # a tenth of SFT's: large steps widen the margin by making both answers unlikely; not yet tried out
    epochs: int = 1  # passes over the pairs: once a pair is won, a further pass mostly drives its margin up
    beta: float = 0.1  # per nat: how soon a gain over the reference is enough; smaller lets the model go further away from it
    sft_weight: float = 1.0  # weight of the mean loss per chosen token beside DPO's mean loss per pair; 0 leaves DPO alone
    rank: int = 16  # LoRA rank, as in SFT
    alpha: int = 32  # LoRA scale: twice the rank, as in SFT
    batch_size: int = 8  # pairs per optimizer step
    micro_tokens: int = 900  # tokens of prompts and both answers computed at once: sets peak memory, changes no result
    memory_limit: int = 0  # MB that the process may hold; the micro-batch is made to fit; 0 means what the machine has free
    warmup: float = 0.06  # share of the steps in which the rate rises from 0: the first gradients are the wildest
    max_grad_norm: float = 1.0  # longer gradients are cut to this length: one odd pair cannot spoil a step
    max_length: int = 512  # tokens of a prompt with one answer at most; longer pairs are refused, never cut
    seed: int = 0  # order of the pairs and start of the LoRA matrices
    pairs: int = 0  # pairs trained on, evenly from the file; 0 means all that are not held out
    validation_pairs: int = 48  # pairs held out, evenly from the file, and measured while training
    watch_every: int = 8  # optimizer steps between two measurements of the held-out pairs

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UsageError(f"objective: expected {' or '.join(OBJECTIVES)}, found {self.objective!r}.")
        sizes = ("rank", "alpha", "batch_size", "micro_tokens", "max_length", "watch_every")
        above_0 = ("learning_rate", "epochs", "beta", "max_grad_norm", *sizes)
        check_numbers(self, above_0, ("sft_weight", "memory_limit", "pairs", "validation_pairs"))
        if not 0 <= self.warmup < 1:
            raise UsageError(f"warmup: expected a share from 0 up to 1, found {self.warmup}.")


@dataclass(frozen=True)
class Preference:
    """Two answers to one input, of which the chosen one is better."""

    id: str
    input: str | list[dict]
    chosen: str
    rejected: str
    where: str = field(default="", compare=False)  # "file:line", for messages
    tags: tuple[str, ...] = ()
    lang: str | None = None

    @property
    def messages(self) -> list[dict]:
        """The input as chat messages."""
        return as_messages(self.input)


def read_pairs(path: Path) -> list[Preference]:
    """The pairs of a JSONL file with rows {"id", "input", "chosen", "rejected"}; a held-out file may be pinned by NAME.sha256 beside it.

    The input is a text or a list of chat messages; an answer is a text or a JSON object, which becomes one line of JSON.

    Raises:
        DataError: the file cannot be read, is not the pinned one, or rows are broken; `problems` lists each of them as "file:line: reason".
    """
    check_frozen(path)
    rows, problems = read_rows(path)
    lines = {f"{path.name}:{n}": line for n, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)}
    pairs = []
    for row in rows:
        record = json.loads(lines[row.where])
        try:
            answers = (_answer(record, "chosen"), _answer(record, "rejected"))
            pairs.append(Preference(row.id, row.input, *answers, row.where, row.tags, row.lang))
        except ValueError as error:
            problems.append(f"{row.where}: {error}")
    if problems:
        raise DataError(f"{path.name}: {len(problems)} broken row(s); mend each of these and run again:", problems)
    return pairs


def _answer(record: dict, key: str) -> str:
    if not isinstance(answer := record.get(key), str | dict):
        found = json.dumps(answer)[:60] if key in record else "none"
        raise ValueError(f"expected {key} to be a text or a JSON object, found {found}")
    text = answer if isinstance(answer, str) else dump_output(answer)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{key} holds half of a surrogate pair (an escape such as \\ud800); write the whole character") from None
    return text


class Pair(NamedTuple):
    """Token ids of a prompt and of its two answers, each of which ends with the end token."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def tokens(self) -> int:
        return len(self.prompt) + len(self.chosen) + len(self.rejected)


def encode_pairs(preferences: Sequence[Preference], tokenizer: Any, max_length: int) -> list[Pair]:
    """Each preference as token ids.

    Raises:
        DataError: there are none; answers are empty or the same, or a prompt with an answer is longer than `max_length` tokens.
            All such pairs are named; none is cut or left out.
    """
    if not preferences:
        raise DataError("expected at least one pair of answers, found none; add rows with input, chosen and rejected.")
    pairs, problems = [], []
    for preference in preferences:
        ids, start = encode_example(tokenizer, preference.messages, preference.chosen)
        pair = Pair(ids[:start], ids[start:], encode_example(tokenizer, preference.messages, preference.rejected)[0][start:])
        pairs.append(pair)
        problems += [f"{preference.where or preference.id}: {fault}" for fault in _faults(preference, pair, max_length)]
    if problems:
        raise DataError(f"{len(problems)} fault(s) in the pairs; mend or remove each of these, or raise max_length:", problems)
    return pairs


def _faults(preference: Preference, pair: Pair, max_length: int) -> list[str]:
    faults = [f"the {name} answer is empty" for name in ("chosen", "rejected") if not getattr(preference, name).strip()]
    if pair.chosen == pair.rejected:
        faults.append("the chosen and the rejected answer are the same")
    for name in ("chosen", "rejected"):
        if (length := len(pair.prompt) + len(getattr(pair, name))) > max_length:
            faults.append(f"{length} tokens with the {name} answer, expected at most {max_length}")
    return faults


def common_prefix(pairs: Sequence[Pair]) -> list[int]:
    """The token ids that all prompts begin with, at least one less than the shortest of them."""
    prompts = [pair.prompt for pair in pairs]
    return prompts[0][: shared_prefix_length(prompts)]


def pair_tree(pairs: Sequence[Pair], prefix: Sequence[int] = ()) -> Any:
    """Pairs as one tree: `prefix` (if any), then for each pair three segments: the rest of its prompt, chosen and rejected under it.

    Args:
        prefix: token ids that every prompt begins with. It is cut back to one less than the shortest prompt: the last token of a
            prompt predicts the first token of both answers, so it has to stand right above them.
    """
    from ftlab.llama import Tree

    size = min(len(prefix), *(len(pair.prompt) - 1 for pair in pairs))
    segments, parents = ([tuple(prefix[:size])], [-1]) if size else ([], [])
    for prompt, chosen, rejected in pairs:
        own = len(segments)
        segments += [tuple(prompt[size:]), tuple(chosen), tuple(rejected)]
        parents += [0 if size else -1, own, own]
    return Tree(tuple(segments), tuple(parents))


def pair_logps(decoder: Any, pairs: Sequence[Pair], prefix: Sequence[int] = (), *, checkpoint: bool = False) -> tuple[Any, Any]:
    """Log-probabilities in nats of the chosen and of the rejected answers, (B,) each, by the fast decoder (`FastDecoder`).

    Args:
        checkpoint: less memory, a third more time; see `FastDecoder.hidden`.
    """
    return answer_logps(pair_token_losses(decoder, pairs, prefix, checkpoint=checkpoint), pairs)


def pair_token_losses(decoder: Any, pairs: Sequence[Pair], prefix: Sequence[int] = (), *, checkpoint: bool = False) -> Any:
    """The loss of each answer token, (M,), by the fast decoder: all chosen answers in their order, then all rejected ones."""
    import torch

    from ftlab.llama import token_losses

    tree = pair_tree(pairs, prefix)
    prompts = range(len(tree.segments) - 3 * len(pairs), len(tree.segments), 3)  # which segments
    states = []
    for answer in (1, 2):  # the first, then the second child of each prompt
        for prompt in prompts:
            span = tree.span(prompt + answer)
            # subtle: the first token of an answer is predicted by the last of its prompt, which is not the token packed before it
            states += [torch.tensor([tree.ends[prompt] - 1]), torch.arange(span.start, span.stop - 1)]
    hidden = decoder.hidden(tree, checkpoint=checkpoint)  # (N, D)
    return token_losses(hidden[torch.cat(states)], decoder.head, _labels(pairs))


def plain_pair_logps(model: Any, pairs: Sequence[Pair]) -> tuple[Any, Any]:
    """The same by any causal LM of transformers: each answer behind its prompt, 2·B rows padded on the right."""
    return answer_logps(plain_pair_token_losses(model, pairs), pairs)


def plain_pair_token_losses(model: Any, pairs: Sequence[Pair]) -> Any:
    """The loss of each answer token, (M,), in the order of `pair_token_losses`."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    answers, starts = _answers(pairs), [len(pair.prompt) for pair in pairs] * 2
    prompts = [pair.prompt for pair in pairs] * 2
    input_ids = pad_sequence([torch.tensor([*p, *a]) for p, a in zip(prompts, answers, strict=True)], batch_first=True)  # (2·B, T)
    # subtle: the state at position t predicts token t + 1
    where = [slice(start - 1, start - 1 + len(a)) for start, a in zip(starts, answers, strict=True)]
    logits = logits_at(model, input_ids, where)  # (M, V), M the number of answer tokens
    return cross_entropy(logits, _labels(pairs), reduction="none")


def _answers(pairs: Sequence[Pair]) -> list[list[int]]:
    return [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]


def _labels(pairs: Sequence[Pair]) -> Any:
    import torch

    return torch.tensor([token for answer in _answers(pairs) for token in answer])  # (M,)


def answer_logps(losses: Any, pairs: Sequence[Pair]) -> tuple[Any, Any]:
    """Losses of all answers' tokens, (M,) -> log-probabilities of chosen and rejected, (B,) each."""
    import torch

    logps = -torch.stack([part.sum() for part in losses.split([len(answer) for answer in _answers(pairs)])])
    return logps[: len(pairs)], logps[len(pairs) :]


def _all_logps(logps: Callable, pairs: Sequence[Pair], micro_tokens: int) -> list[tuple[float, float]]:
    """(chosen, rejected) of each pair in their order, by `logps`, without gradient."""
    import torch

    found = {}
    with torch.inference_mode():
        for piece in micro_batches(range(len(pairs)), [pair.tokens for pair in pairs], micro_tokens):
            chosen, rejected = logps([pairs[i] for i in piece])
            found |= zip(piece, zip(chosen.tolist(), rejected.tolist(), strict=True), strict=True)
    return [found[i] for i in range(len(pairs))]


def reference_logps(
    loaded: LoadedModel, pairs: Sequence[Pair], keep: Path, *, micro_tokens: int = DpoConfig.micro_tokens
) -> list[tuple[float, float]]:
    """Log-probabilities (chosen, rejected) of each pair under `loaded`, before it is tuned on them.

    Args:
        keep: a file for them, read instead of computing them if it is of the same pairs and weights. Weights that are not known by
            hash (see `LoadedModel.adapter_sha256`) are computed each time.
        micro_tokens: tokens computed at once.
    """
    key = None if loaded.adapter_sha256 is None else _key(loaded.sha256, loaded.adapter_sha256, pairs)
    if key and (kept := read_kept(keep, key)):
        return [tuple(logps) for logps in kept]
    decoder, _ = fast_decoder(loaded)
    compute = partial(pair_logps, decoder, prefix=common_prefix(pairs)) if decoder else partial(plain_pair_logps, loaded.model)
    logps = _all_logps(compute, pairs, micro_tokens)
    if key:
        write_kept(keep, key, logps)
    return logps


def _key(*depends_on: Any) -> str:
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()


class Judged(NamedTuple):
    """A pair with what its loss needs beside the model."""

    pair: Pair
    reference: tuple[float, float]  # log-probabilities of chosen and rejected before tuning
    token_weight: float = 0.0  # of each chosen token in the supervised term, in pairs; depends on the step, see `weigh_tokens`


def weigh_tokens(items: Sequence[Judged]) -> list[Judged]:
    """The items of one step, their token weights such that the supervised term is a mean over all chosen tokens of the step.

    The loop divides the step's loss by its B pairs; a weight of B over the chosen tokens makes that a mean over tokens.
    """
    weight = len(items) / sum(len(item.pair.chosen) for item in items)
    return [item._replace(token_weight=weight) for item in items]


class DpoLoss(DecoderLoss):
    """Called with the items of a micro-batch, gives (sum of their losses, how many they are).

    With c and r the log-probabilities of a pair's answers, c₀ and r₀ those of the reference and n the mean number of chosen tokens in the
    step, the loss of a pair is −log σ(β·((c − c₀) − (r − r₀))) − sft_weight·c/n. Divided by the pairs of the step, that is a mean over
    pairs plus sft_weight times a mean over chosen tokens.

    Args:
        loaded: the model to tune, LoRA already on it.
        prefix: the tokens that all prompts begin with, computed once per micro-batch.
        beta, sft_weight: see `DpoConfig`.
        checkpoint: less memory, a third more time, in the fast decoder; see `FastDecoder.hidden`.
        say: told once why the fast decoder does not apply, if it does not.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prefix: Sequence[int] = (),
        *,
        beta: float = DpoConfig.beta,
        sft_weight: float = DpoConfig.sft_weight,
        checkpoint: bool = False,
        say: Callable[[str], None] = print,
    ):
        super().__init__(loaded, say)
        self.prefix, self.beta, self.sft_weight, self.checkpoint = list(prefix), beta, sft_weight, checkpoint

    def logps(self, pairs: Sequence[Pair]) -> tuple[Any, Any]:
        """Log-probabilities of the chosen and of the rejected answers, (B,) each."""
        if self.decoder is None:
            return plain_pair_logps(self.model, pairs)
        return pair_logps(self.decoder, pairs, self.prefix, checkpoint=self.checkpoint)

    def token_losses(self, pairs: Sequence[Pair]) -> Any:
        """What `logps` sums: the loss of each answer token, (M,), all chosen answers in their order, then all rejected ones."""
        if self.decoder is None:
            return plain_pair_token_losses(self.model, pairs)
        return pair_token_losses(self.decoder, pairs, self.prefix, checkpoint=self.checkpoint)

    def __call__(self, items: Sequence[Judged]) -> tuple[Any, float]:
        return self.of_logps(*self.logps([item.pair for item in items]), items)

    def of_logps(self, chosen: Any, rejected: Any, items: Sequence[Judged]) -> tuple[Any, float]:
        """The loss of items whose answers have these log-probabilities, (B,) each, and how many they are."""
        from torch.nn.functional import logsigmoid

        references = chosen.new_tensor([item.reference for item in items])  # (B, 2)
        margins = (chosen - references[:, 0]) - (rejected - references[:, 1])
        token_weights = chosen.new_tensor([item.token_weight for item in items])
        losses = -logsigmoid(self.beta * margins) - self.sft_weight * token_weights * chosen
        return losses.sum(), float(len(items))


def dpo_run(
    loaded: LoadedModel,
    pairs: Sequence[Preference],
    config: DpoConfig,
    out: Path,
    *,
    held_out: Sequence[Preference] = (),
    resume: bool = False,
) -> Run:
    """A run that is ready for its first step; see `prepare_dpo`."""
    return prepare_dpo(loaded, pairs, config, out, held_out=held_out, resume=resume)[0]


def prepare_dpo(
    loaded: LoadedModel,
    pairs: Sequence[Preference],
    config: DpoConfig,
    out: Path,
    *,
    held_out: Sequence[Preference] = (),
    resume: bool = False,
) -> tuple[Run, Callable[[], dict], dict]:
    """(a run that is ready for its first step, what measures how far it has come, mean log-probabilities before it).

    Pairs are encoded, memory is planned, the reference is known, LoRA is on `loaded`: the matrices that it carries
    (`artifact.attach_adapter`), else new ones.

    Raises:
        UsageError: `out` cannot be made, or there is too little memory; says what to lower.
        DataError: pairs that cannot be trained on (see `encode_pairs`), or a checkpoint of another run.
    """
    make_folder(out)
    encoded = encode_pairs(pairs, loaded.tokenizer, config.max_length)
    watched = encode_pairs(held_out, loaded.tokenizer, config.max_length) if held_out else []
    origin = {"config": decisive(asdict(config)), "pairs": _key(encoded, watched), "base": [loaded.sha256, loaded.adapter_sha256]}
    plan = plan_training(loaded, [pair.tokens for pair in encoded + watched], config, named=str)
    if plan:
        config = replace(config, micro_tokens=plan.micro_tokens)
    references = reference_logps(loaded, encoded + watched, out / REFERENCE, micro_tokens=config.micro_tokens)
    judged = [Judged(pair, reference) for pair, reference in zip(encoded + watched, references, strict=True)]
    # assigned in any case: from here on no hash stands for the weights
    loaded.model = loaded.model if hasattr(loaded.model, "peft_config") else _with_lora(loaded.model, config)
    run = Run(loaded.model, config, out, origin=origin, **_items(judged[: len(pairs)], config))
    if resume:
        run.load()
    checkpoint = bool(plan and plan.checkpoint)
    weights = {"beta": config.beta, "sft_weight": config.sft_weight}
    prefix = common_prefix(encoded + watched)
    pair_loss = DpoLoss(loaded, prefix, **weights, checkpoint=checkpoint)
    by_dpo = config.objective == "dpo"
    run.loss = pair_loss if by_dpo else AnswerLoss(loaded, prefix, checkpoint=checkpoint, say=lambda _: None)
    followed = judged[len(pairs) :] or judged
    measure = partial(_measure, pair_loss.logps, followed, config.micro_tokens)
    run.plan, run.watch, run.watch_every = plan, measure if held_out else None, config.watch_every
    return run, measure, _means([item.reference for item in followed])


def _with_lora(model: Any, config: DpoConfig) -> Any:
    return add_lora(model, rank=config.rank, alpha=config.alpha, seed=config.seed)


def _items(judged: list[Judged], config: DpoConfig) -> dict:
    """What a run trains on, as `Run` takes it."""
    if config.objective == "dpo":
        lengths = [item.pair.tokens for item in judged]
        return {"items": judged, "lengths": lengths, "weights": [1.0] * len(judged), "prepare": weigh_tokens}
    examples = chosen_examples([item.pair for item in judged], config.seed)
    lengths = [len(ids) for ids, _, _ in examples]
    return {"items": examples, "lengths": lengths, "weights": [sum(weights) for _, _, weights in examples]}


def chosen_examples(pairs: Sequence[Pair], seed: int) -> list[Example]:
    """The chosen answers as rows of supervised tuning, so many of them a second time that they have about the tokens of the pairs.

    A pair costs the tokens of both answers; where a step of DPO computes the rejected one, this computes another chosen one.
    """
    examples = [([*p.prompt, *p.chosen], len(p.prompt), [1.0] * len(p.chosen)) for p in pairs]
    again = list(examples)
    random.Random(f"{seed}-again").shuffle(again)
    missing = sum(pair.tokens for pair in pairs) - sum(len(ids) for ids, _, _ in examples)
    for example in cycle(again):
        if missing < len(example[0]) / 2:
            return examples
        examples.append(example)
        missing -= len(example[0])


def _measure(logps: Callable, judged: Sequence[Judged], micro_tokens: int) -> dict:
    """How far the pairs have moved from the reference; see `train_dpo`."""
    now = _all_logps(logps, [item.pair for item in judged], micro_tokens)
    gains = [(c - c0) - (r - r0) for (c, r), (c0, r0) in zip(now, [item.reference for item in judged], strict=True)]
    return {"reward_accuracy": sum(gain > 0 for gain in gains) / len(gains), "margin": sum(gains) / len(gains), **_means(now)}


def train_dpo(
    loaded: LoadedModel,
    pairs: Sequence[Preference],
    config: DpoConfig,
    out: Path,
    *,
    held_out: Sequence[Preference] = (),
    resume: bool = False,
    progress: bool = True,
) -> dict:
    """Tune `loaded` on pairs of answers; the adapter after the last pass ends up in `out`.

    Args:
        loaded: the reference model and the start of the tuned one; on return its `model` is a peft model that carries the adapter. If
            it carries one already (`artifact.attach_adapter`), that one is tuned further.
        pairs: what `read_pairs` gives. The prompt is the input alone: a system message has to stand in it.
        out: folder for adapter_model.safetensors, adapter_config.json, reference.json and checkpoint.safetensors (removed at the end).
        held_out: pairs that are not trained on, but measured before the first step, every `watch_every` steps and after each pass.
        resume: go on from the checkpoint in `out`, which must come from the same settings, pairs and model.
        progress: show a bar with the time left, and say what memory is expected.

    Returns:
        {"curve": [{"epoch", "train_loss", "reward_accuracy", "margin", "chosen_logp", "rejected_logp"}], "trace" (with held-out pairs:
        [{"step", **the same four}]), "before": {"chosen_logp", "rejected_logp"}, "best_epoch" (the last), "steps", "tokens", "seconds",
        "pairs", "held_out"}. What is measured are the held-out pairs, all training pairs if there are none: the share of them whose
        chosen answer gained more over the reference than the rejected one, by how many nats in the mean, and mean log-probabilities
        of answers in nats. "seconds" are those of the steps.

    Raises:
        UsageError, DataError: see `prepare_dpo`.
        KeyboardInterrupt: after the state was saved.
    """
    run, measure, before = prepare_dpo(loaded, pairs, config, Path(out), held_out=held_out, resume=resume)
    if run.plan and progress:
        print(run.plan, flush=True)
    run.train(measure, progress=progress)
    return run.summary() | {"before": before, "pairs": len(pairs), "held_out": len(held_out)}


def _means(logps: Sequence[tuple[float, float]]) -> dict:
    chosen, rejected = zip(*logps, strict=True)
    return {"chosen_logp": sum(chosen) / len(logps), "rejected_logp": sum(rejected) / len(logps)}
