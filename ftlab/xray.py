"""An x-ray of a training row: its tokens, what the chat template added, the labels, which positions carry loss and how much.

Nothing is computed beside the trainer. Its own code builds the batch and computes the loss, and what is shown is read out of that:

- our loops: the encoded rows, and `token_losses` of the class that the loop calls, which are what that class weighs and sums;
- pretraining: the batch that an objective makes of packed blocks, and its loss at each position;
- trl: the batch of the trainer's own data loader, and the log-probabilities inside its own `compute_loss`.

The weight of a position is the derivative of the trainer's loss by that position's loss. So the loss follows from the positions shown;
it is worked out from them, compared with the trainer's own, and both are told.

A trainer is added by a function from a `Subject` to an `Xray` in `TRAINERS`. For anything that trains on examples of `train.loss`
`of_examples` is that function's whole body.
"""

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import exp, fsum, isclose, log1p
from pathlib import Path
from typing import Any

from ftlab.artifact import CONFIG, WEIGHTS, apply_adapter, read_adapter_weights
from ftlab.chatparts import token_parts, token_text
from ftlab.errors import DataError, UsageError
from ftlab.generate import generate
from ftlab.models import LoadedModel
from ftlab.rows import Row
from ftlab.stock import dpo_trainer, sft_trainer
from ftlab.task import Task
from ftlab.train.blocks import token_ids
from ftlab.train.examples import Example, shared_prefix
from ftlab.train.loss import AnswerLoss, weighted
from ftlab.train.objectives import EOS, MASK, MIDDLE, OBJECTIVES, PREFIX, SUFFIX, summed_loss
from ftlab.train.preference import DpoConfig, Preference, answer_logps, dpo_run, encode_pairs
from ftlab.train.rehearsal import ANSWER_TOKENS, encode_answer
from ftlab.train.settings import SftConfig
from ftlab.train.sft import encode_rows

TOLERANCE = 1e-4  # relative: sums of 32-bit floats in another order differ less
NO_LABEL = -100  # what torch's cross-entropy passes over
LEAST_BLOCK = 8  # tokens of a text for pretraining
SIGNS = {"fill-in-the-middle": (PREFIX, SUFFIX, MIDDLE, EOS), "masked": (MASK,)}  # that an objective writes


@dataclass(frozen=True)
class Position:
    """One token as the trainer meets it.

    Attributes:
        at: place in its sequence, from 0.
        part: "template", the role of the message it belongs to, "answer", "end", "text" (no chat), or "prompt" where that is not known.
        label: the token to be predicted here, None where nothing is.
        weight: by how much the batch's loss falls if this token's loss falls by 1; negative if the token is made less likely.
        loss: −log of the probability that the model gives the label, in nats.
    """

    at: int
    token_id: int
    token: str
    part: str
    label: int | None = None
    weight: float = 0.0
    loss: float | None = None


@dataclass(frozen=True)
class TokenRow:
    """A row of the batch; `name` tells the answers of a pair apart, `padding` counts the positions after it."""

    row: str
    name: str
    positions: tuple[Position, ...]
    padding: int = 0

    @property
    def loss(self) -> float:
        """Summed loss of the labels, unweighted: −log of the answer's probability."""
        return fsum(p.loss for p in self.positions if p.loss is not None)


@dataclass(frozen=True)
class Xray:
    """What one batch of a trainer looks like inside.

    Attributes:
        own_loss: what the trainer's own code computes for this batch.
        shown_loss: the same from `rows` alone, in the way that `formula` says.
        pairs: for preferences, what the formula takes beside the positions.
    """

    trainer: str
    model: str
    rows: tuple[TokenRow, ...]
    own_loss: float
    shown_loss: float
    formula: str
    pairs: tuple[dict, ...] = ()

    @property
    def agrees(self) -> bool:
        return isclose(self.own_loss, self.shown_loss, rel_tol=TOLERANCE, abs_tol=1e-6)

    def as_dict(self) -> dict:
        """Everything, for a file."""
        return asdict(self) | {"agrees": self.agrees}

    def table(self) -> list[dict]:
        """One plain record a position, for a notebook: what `Position` holds, behind the row and the name of its sequence."""
        return [{"row": s.row, "sequence": s.name} | asdict(p) for s in self.rows for p in s.positions]


@dataclass(frozen=True)
class Subject:
    """Rows as a trainer is to meet them, all in one batch.

    Attributes:
        loaded: the base model.
        rows: labelled rows of `task`; for "general" rows of general prompts; for pretraining any rows, whose messages are the text.
        pairs: preferences, for the trainers that take them.
        adapter: of the model whose losses are shown; None for the base model. To a preference trainer it is the adapter being trained,
            measured from the base model.
        scratch: an empty folder.
    """

    loaded: LoadedModel
    scratch: Path
    task: Task | None = None
    rows: Sequence[Row] = ()
    pairs: Sequence[Preference] = ()
    adapter: Path | None = None
    text_weight: float = SftConfig.text_weight
    max_length: int = SftConfig.max_length


def xray(trainer: str, subject: Subject) -> Xray:
    """The x-ray of `subject` by one of `TRAINERS`.

    Raises:
        UsageError: an unknown trainer, rows or pairs missing, an adapter that does not fit, or trl is not installed.
        DataError: rows that the trainer would refuse, or one with no answer token to train on.
    """
    if trainer not in TRAINERS:
        raise UsageError(f"--trainer: expected one of {', '.join(TRAINERS)}, found {trainer!r}.")
    if not (subject.pairs if trainer in PAIRED else subject.rows):
        raise UsageError(f"--trainer {trainer}: expected at least one {'pair' if trainer in PAIRED else 'row'}, found none.")
    found = TRAINERS[trainer](subject)
    return replace(found, model=f"{found.model} with {subject.adapter}") if subject.adapter else found


def of_examples(
    trainer: str,
    loaded: LoadedModel,
    examples: Sequence[Example],
    names: Sequence[str],
    conversations: Sequence[Sequence[dict]] | None = None,
) -> Xray:
    """The x-ray of examples by `AnswerLoss`: the mean loss of a label, by weight, as the loop lowers it.

    Args:
        names: what each row is called.
        conversations: the chats that the examples were made from; None for plain text.
    """
    import torch

    _refuse_empty(names, [[*ids[start:]] for ids, start, _ in examples], loaded.tokenizer)
    answer_loss = AnswerLoss(loaded, shared_prefix(examples))
    with torch.no_grad():
        total, weight = answer_loss(examples)
        losses = answer_loss.token_losses(examples)
    losses.requires_grad_()
    again, _ = weighted(losses, examples)
    weights = iter(torch.autograd.grad(again / weight, losses)[0].tolist())
    each = iter(losses.tolist())
    sequences = []
    for (ids, start, row_weights), name, chat in zip(examples, names, conversations or [None] * len(names), strict=True):
        marks = [None] * start + [(next(weights), next(each)) for _ in row_weights]
        labels = [NO_LABEL] * start + list(ids[start:])
        sequences.append(_token_row(loaded.tokenizer, name, "row", ids, labels, marks, chat))
    return _weighted_xray(trainer, loaded.name, sequences, total.item() / weight)


def of_blocks(loaded: LoadedModel, blocks: Any, draw: Any, objective: str, ids: dict[str, int], names: Sequence[str]) -> Xray:
    """The x-ray of packed blocks as pretraining sees them: the mean loss of a label.

    Labels of the next token are shown where that token stands, as everywhere here; those of hidden tokens at their own places.

    Args:
        blocks: token ids, (B, T).
        draw: the random state of the step, which decides what is cut or hidden.
        objective: one of `ftlab.train.objectives.OBJECTIVES`.
        ids: the numbers of the signs that the objective writes.
        names: what each block is called.
    """
    import torch

    batch = OBJECTIVES[objective](blocks, draw, ids)
    with torch.no_grad():
        each = summed_loss(loaded.model, batch, each=True)  # (B, T)
        own = summed_loss(loaded.model, batch).item() / batch.asked
    each.requires_grad_()
    (weights,) = torch.autograd.grad(each.sum() / batch.asked, each)
    shift = 0 if batch.both_ways else 1
    sequences = []
    for b, name in enumerate(names):
        n = len(batch.input_ids[b]) - shift
        labels = [NO_LABEL] * shift + batch.labels[b].tolist()[:n]
        found = [(0.0, 0.0)] * shift + list(zip(weights[b].tolist(), each[b].tolist(), strict=True))[:n]
        marks = [mark if label != NO_LABEL else None for mark, label in zip(found, labels, strict=True)]
        sequences.append(_token_row(loaded.tokenizer, name, "block", batch.input_ids[b].tolist(), labels, marks, None))
    return _weighted_xray(objective, loaded.name, sequences, own)


def _weighted_xray(trainer: str, model: str, sequences: Sequence[TokenRow], own: float) -> Xray:
    shown = fsum(p.weight * p.loss for s in sequences for p in s.positions if p.loss is not None)
    return Xray(trainer, model, tuple(sequences), own, shown, "the sum of weight × loss")


def _sft(subject: Subject) -> Xray:
    loaded, task, rows = subject.loaded, subject.task, subject.rows
    examples = encode_rows(task, rows, loaded.tokenizer, subject.max_length, subject.text_weight)
    _merge(subject)
    return of_examples("sft", loaded, examples, [row.id for row in rows], [task.conversation(row) for row in rows])


def _general(subject: Subject) -> Xray:
    """Everyday prompts with the answers of the model as it is before the adapter, as they are mixed into a tuning."""
    loaded, prompts = subject.loaded, [row.text for row in subject.rows]
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
    answers = generate(loaded, chats, max_new_tokens=ANSWER_TOKENS)
    examples = [encode_answer(loaded.tokenizer, p, a.text, a.ended) for p, a in zip(prompts, answers, strict=True)]
    _merge(subject)
    return of_examples("general", loaded, examples, [row.id for row in subject.rows], chats)


def _pretraining(objective: str) -> Callable[[Subject], Xray]:
    """The x-ray of an objective on the texts of the rows, packed into one block with end tokens between, as long as `max_length` allows."""

    def of_rows(subject: Subject) -> Xray:
        import numpy as np

        _merge(subject)
        tokenizer = subject.loaded.tokenizer
        ids = _signs(tokenizer, objective)
        block = [token for row in token_ids(tokenizer, [row.text for row in subject.rows]) for token in row][: subject.max_length]
        if len(block) < LEAST_BLOCK:
            raise DataError(
                f"--trainer {objective}: expected a text of {LEAST_BLOCK} tokens at least, found {len(block)}; take more rows."
            )
        name = ", ".join(row.id for row in subject.rows)
        return of_blocks(subject.loaded, np.array([block]), np.random.default_rng(0), objective, ids, [name])

    return of_rows


def _signs(tokenizer: Any, objective: str) -> dict[str, int]:
    """The numbers of the signs that an objective writes.

    Raises:
        UsageError: the model does not know them.
    """
    vocabulary = tokenizer.get_vocab()
    if missing := [sign for sign in SIGNS.get(objective, ()) if sign not in vocabulary]:
        raise UsageError(
            f"--trainer {objective}: expected a model with the signs {', '.join(missing)}, found none; take one that ftlab pretrain made."
        )
    return {sign: vocabulary[sign] for sign in SIGNS.get(objective, ())}


def _trl_sft(subject: Subject) -> Xray:
    loaded, task, rows = subject.loaded, subject.task, subject.rows
    examples = encode_rows(task, rows, loaded.tokenizer, subject.max_length)
    _refuse_empty([row.id for row in rows], [[*ids[start:]] for ids, start, _ in examples], loaded.tokenizer)
    _merge(subject)
    config = SftConfig(batch_size=len(rows), max_length=subject.max_length)
    with _quiet():
        trainer = sft_trainer(loaded, examples, config, subject.scratch)
        batch, losses, weights, own = _inside_trl(trainer)
    order = _places(batch, [row["input_ids"] for row in trainer.train_dataset])
    sequences = [
        _batch_row(loaded.tokenizer, row.id, "row", batch, batch["labels"][i], losses[i], weights[i], i, task.conversation(row))
        for row, i in zip(rows, order, strict=True)
    ]
    return _weighted_xray("trl-sft", loaded.name, sequences, own)


def _merge(subject: Subject) -> None:
    if subject.adapter:
        apply_adapter(subject.loaded, subject.adapter)


def _dpo(subject: Subject) -> Xray:
    import torch

    loaded, pairs = subject.loaded, subject.pairs
    run = dpo_run(loaded, pairs, _dpo_config(subject), subject.scratch)
    _into_lora(run.model, subject.adapter)
    run.loss.refresh()
    items = run.prepare(list(run.items))
    encoded = [item.pair for item in items]
    with torch.no_grad():
        own = run.loss(items)[0].item() / len(items)
        losses = run.loss.token_losses(encoded)
    losses.requires_grad_()
    again, n = run.loss.of_logps(*answer_logps(losses, encoded), items)
    weights, each = iter(torch.autograd.grad(again / n, losses)[0].tolist()), iter(losses.tolist())
    sequences = []
    for name in ("chosen", "rejected"):
        for preference, pair in zip(pairs, encoded, strict=True):
            answer, start = getattr(pair, name), len(pair.prompt)
            marks = [None] * start + [(next(weights), next(each)) for _ in answer]
            labels = [NO_LABEL] * start + answer
            ids = [*pair.prompt, *answer]
            sequences.append(_token_row(loaded.tokenizer, preference.id, name, ids, labels, marks, preference.messages))
    references = [item.reference for item in items]
    return _paired_xray("dpo", loaded.name, sequences, references, run.loss.beta, run.loss.sft_weight, own)


def _trl_dpo(subject: Subject) -> Xray:
    loaded, pairs = subject.loaded, subject.pairs
    encode_pairs(pairs, loaded.tokenizer, subject.max_length)  # refuses what trl would cut without a word
    config = _dpo_config(subject)
    texts = [
        {
            "prompt": loaded.tokenizer.apply_chat_template(pair.messages, tokenize=False, add_generation_prompt=True),
            "chosen": pair.chosen,
            "rejected": pair.rejected,
        }
        for pair in pairs
    ]
    with _quiet():
        trainer = dpo_trainer(loaded, texts, config, subject.scratch)
        _into_lora(trainer.model, subject.adapter)
        batch, losses, weights, own = _inside_trl(trainer)
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, NO_LABEL)
    chosen = _places(batch, [row["prompt_ids"] + row["chosen_ids"] for row in trainer.train_dataset])
    sequences = []
    for name, shift in (("chosen", 0), ("rejected", len(pairs))):
        for pair, place in zip(pairs, chosen, strict=True):
            i = place + shift
            args = (batch, labels[i], losses[i], weights[i], i, pair.messages)
            sequences.append(_batch_row(loaded.tokenizer, pair.id, name, *args))
    references = [(batch["ref_chosen_logps"][i].item(), batch["ref_rejected_logps"][i].item()) for i in chosen]
    return _paired_xray("trl-dpo", loaded.name, sequences, references, trainer.beta, trainer.loss_weights[1], own)


def _paired_xray(
    trainer: str,
    model: str,
    sequences: Sequence[TokenRow],
    references: Sequence[tuple[float, float]],
    beta: float,
    sft_weight: float,
    own: float,
) -> Xray:
    """`sequences` are all chosen answers, then all rejected ones in the same order."""
    n = len(references)
    facts = []
    for chosen, rejected, (c0, r0) in zip(sequences[:n], sequences[n:], references, strict=True):
        margin = (-chosen.loss - c0) - (-rejected.loss - r0)
        pair = {"row": chosen.row, "chosen_logp": -chosen.loss, "rejected_logp": -rejected.loss, "margin": margin}
        facts.append(pair | {"reference_chosen_logp": c0, "reference_rejected_logp": r0, "beta": beta, "sft_weight": sft_weight})
    tokens = sum(p.loss is not None for s in sequences[:n] for p in s.positions)
    preference = fsum(_softplus(-beta * pair["margin"]) for pair in facts) / n
    shown = preference + sft_weight * fsum(s.loss for s in sequences[:n]) / tokens
    formula = f"the mean over pairs of −log σ({beta:g} × margin), plus {sft_weight:g} × the mean loss of a chosen token"
    return Xray(trainer, model, tuple(sequences), own, shown, formula, tuple(facts))


def _softplus(x: float) -> float:
    """log(1 + eˣ), which is −log σ(−x), without overflow."""
    return max(x, 0.0) + log1p(exp(-abs(x)))


def _dpo_config(subject: Subject) -> DpoConfig:
    """Settings that fit the adapter, if there is one; all pairs in one batch."""
    config = DpoConfig(batch_size=len(subject.pairs), max_length=subject.max_length)
    if not subject.adapter:
        return config
    try:
        settings = json.loads((subject.adapter / CONFIG).read_text(encoding="utf-8"))
        return replace(config, rank=settings["r"], alpha=settings["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"--adapter {subject.adapter}: expected a folder with a LoRA adapter, found a fault in {CONFIG}: {error!r}."
        ) from None


def _into_lora(model: Any, adapter: Path | None) -> None:
    """Put the matrices of an adapter into those that the trainer made."""
    if adapter is None:
        return
    from safetensors import safe_open

    made = {name.replace(".default", "") for name, p in model.named_parameters() if p.requires_grad}
    try:
        with safe_open(adapter / WEIGHTS, "pt") as file:
            found = set(file.keys())
    except Exception as error:  # safetensors raises its own kinds for each sort of damage
        raise DataError(f"{adapter / WEIGHTS}: the adapter cannot be read ({error}); get it again.") from None
    if found != made:
        raise UsageError(
            f"--adapter {adapter}: expected LoRA matrices on the layers that the trainer adapts ({len(made)} matrices), found "
            f"{len(found)}, {len(found - made)} of them elsewhere; choose an adapter that this trainer made."
        )
    read_adapter_weights(model, adapter)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars and notices of future versions that trl's trainers bring for a batch of one row."""
    try:
        import datasets
    except ImportError:  # the trainer says what to install
        yield
        return
    off = datasets.are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            if not off:
                datasets.enable_progress_bars()


def _inside_trl(trainer: Any) -> tuple[dict, Any, Any, float]:
    """(the first batch of the trainer's loader, the loss of each token and its weight, both (B, T) with NaN where there is none, the
    loss of the batch), as `compute_loss` has them.

    subtle: the log-probabilities are caught inside `compute_loss` and made the start of its gradient, so that the weights are those of
    whatever the trainer does with them afterwards.
    """
    import torch

    (batch,), count = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    caught: list[Any] = []

    def catch(module: Any, args: Any, output: Any) -> Any:
        if getattr(output, "log_probs", None) is not None:
            output.log_probs = output.log_probs.detach().requires_grad_()
            caught.append(output)
        return output

    handle = trainer.model.register_forward_hook(catch)
    try:
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=count)
    finally:
        handle.remove()
    (output,) = caught
    (slope,) = torch.autograd.grad(loss, output.log_probs)
    losses, weights = (torch.full(batch["input_ids"].shape, float("nan")) for _ in range(2))
    # subtle: the log-probability at position t is that of the label at t + 1, where it is shown
    for wide, found in ((losses, -output.log_probs.detach()), (weights, -slope)):
        wide[:, 1:] = found.float().cpu().masked_fill(~output.label_mask.cpu(), float("nan"))
    return {name: value.cpu() for name, value in batch.items()}, losses, weights, loss.item()


def _places(batch: dict, rows: Sequence[Sequence[int]]) -> list[int]:
    """Where in the batch each row of the trainer's data set stands: its loader shuffles them."""
    held = [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    free, places = list(range(len(held))), []
    for ids in rows:
        place = next((i for i in free if held[i] == list(ids)[: len(held[i])]), None)
        if place is None:
            raise DataError("expected every row in the trainer's batch, found one that it left out or changed; shorten the rows.")
        free.remove(place)
        places.append(place)
    return places


def _batch_row(
    tokenizer: Any, row: str, name: str, batch: dict, labels: Any, losses: Any, weights: Any, i: int, chat: Sequence[dict]
) -> TokenRow:
    length = int(batch["attention_mask"][i].sum())
    ids = batch["input_ids"][i, :length].tolist()
    marks = [None if w != w else (w, loss) for w, loss in zip(weights[:length].tolist(), losses[:length].tolist(), strict=True)]
    sequence = _token_row(tokenizer, row, name, ids, labels[:length].tolist(), marks, chat)
    return replace(sequence, padding=batch["input_ids"].shape[1] - length)


def _token_row(
    tokenizer: Any,
    row: str,
    name: str,
    ids: Sequence[int],
    labels: Sequence[int],
    marks: Sequence[tuple[float, float] | None],
    chat: Sequence[dict] | None,
) -> TokenRow:
    """Tokens with their parts and, where the trainer computes a loss, (weight, loss)."""
    parts = token_parts(tokenizer, ids, chat)
    positions = []
    for at, (token, part, label, mark) in enumerate(zip(ids, parts, labels, marks, strict=True)):
        weight, loss = mark or (0.0, None)
        text = token_text(tokenizer, token)
        positions.append(Position(at, int(token), text, part, None if label == NO_LABEL else int(label), weight, loss))
    return TokenRow(row, name, tuple(positions))


def _refuse_empty(names: Sequence[str], labels: Sequence[Sequence[int]], tokenizer: Any) -> None:
    """Raise DataError, naming them, if rows have no token to train on but the end token."""
    empty = [name for name, row in zip(names, labels, strict=True) if not set(row) - {tokenizer.eos_token_id}]
    if empty:
        raise DataError(
            f"{len(empty)} row(s) have no answer tokens after the template, so that nothing would be learnt from them but to end at "
            "once; expected at least one, write their answers or leave them out:",
            empty,
        )


TRAINERS: dict[str, Callable[[Subject], Xray]] = {
    "sft": _sft, "general": _general, "dpo": _dpo, "trl-sft": _trl_sft, "trl-dpo": _trl_dpo,
    **{objective: _pretraining(objective) for objective in OBJECTIVES},
}  # fmt: skip
PAIRED = ("dpo", "trl-dpo")
ABOUT = {
    "sft": "our supervised loop", "general": "our supervised loop on general rows", "dpo": "our preference loop",
    "trl-sft": "trl's SFTTrainer", "trl-dpo": "trl's DPOTrainer",
    **{objective: f"pretraining ({objective})" for objective in OBJECTIVES},
}  # fmt: skip


def xray_text(found: Xray) -> str:
    """The x-ray to read in a terminal, a line a position; tokens come last, where their width disturbs no column."""
    about = ABOUT.get(found.trainer, found.trainer)
    lines = [f"{len({s.row for s in found.rows})} row(s) in one batch of {about}, losses of {found.model}"]
    for row in found.rows:
        lines += ["", *_token_row_lines(row)]
    lines.append("")
    for pair in found.pairs:
        lines.append(
            f"{pair['row']}: log-probabilities of chosen {pair['chosen_logp']:.3f} (reference {pair['reference_chosen_logp']:.3f}) and "
            f"rejected {pair['rejected_logp']:.3f} (reference {pair['reference_rejected_logp']:.3f}), margin {pair['margin'] + 0.0:.3f}"
        )
    lines.append(f"{found.formula}, from the positions above: {found.shown_loss:.6f}")
    verdict = "the same" if found.agrees else "THESE DIFFER: what is shown is not what is trained"
    lines.append(f"the trainer's own loss of this batch: {found.own_loss:.6f}: {verdict}")
    return "\n".join(lines)


def _token_row_lines(row: TokenRow) -> list[str]:
    trained = [p for p in row.positions if p.loss is not None]
    weights = Counter(f"{p.weight:.5f}" for p in trained)
    told = ", ".join(f"{n} × {weight}" for weight, n in weights.most_common())
    name = row.row if row.name == "row" else f"{row.row}, {row.name}"
    padded = f"; {row.padding} of padding after them" if row.padding else ""
    lines = [
        f"{name}: {len(row.positions)} tokens, {len(trained)} with loss (weights {told}){padded}",
        f"{'at':>4} {'id':>6} {'part':<9} {'label':>6} {'weight':>8} {'loss':>7}  {'a # is ¼ nat':<16} token",
    ]
    for p in row.positions:
        label = NO_LABEL if p.label is None else p.label
        weight, loss = (f"{p.weight:.5f}", f"{p.loss:.3f}") if p.loss is not None else ("-", "-")
        token = json.dumps(p.token, ensure_ascii=False)
        lines.append(f"{p.at:>4} {p.token_id:>6} {p.part:<9} {label:>6} {weight:>8} {loss:>7}  {_bar(p.loss or 0.0):<16} {token}")
    return lines


def _bar(loss: float, most: int = 16) -> str:
    full = round(4 * loss)
    return "#" * full if full <= most else "#" * (most - 1) + "+"
