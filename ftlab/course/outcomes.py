"""Notebook 02: one small pretrained model tuned in seconds, in several ways and to several outcomes, and what it can do afterwards.

The task is made up: an order comes in, and JSON goes out with the kind of thing and a reply. The demonstrations reply in two ways in turn;
the pairs prefer one of them. So it can be told apart what was learnt from which.
"""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ftlab.artifact import read_lineage
from ftlab.checks import parse_strict
from ftlab.course.scratch import small_corpus, stated_facts
from ftlab.course.toy import WHOLE, Order, encoded, orders, toy_run
from ftlab.generate import generate
from ftlab.inside import Text, observe
from ftlab.lora import trainable_parameters
from ftlab.models import PRETRAINED, LoadedModel, load_model, model_folder
from ftlab.stats import share
from ftlab.task import dump_output
from ftlab.train.facts import recall
from ftlab.train.loss import AnswerLoss
from ftlab.train.preference import DpoConfig, Preference, encode_pairs, plain_pair_logps, train_dpo
from ftlab.train.pretrain import new_model
from ftlab.train.pretrain_settings import SIZES
from ftlab.train.sft import mean_loss
from ftlab.updates import layer_and_kind, overall, updates

ASKS, CLAIMS = "Shall I order it?", "It has been ordered."  # a question, and a deed that was not done
KINDS = ("drink", "meal", "baked")
KNOWN = 128  # statements of the facts that the base recalls nearly all of
_TUNED: dict[str, "Outcome"] = {}  # of this process: a section that is entered alone trains what the one before it had trained


@dataclass
class Outcome:
    """What became of the base model: its weights now, how many numbers were trained to get there, tokens read, seconds taken."""

    loaded: LoadedModel
    trained: int = 0
    tokens: int = 0
    seconds: float = 0.0


def demonstrations(n: int, *, skip: int = 0) -> list[Order]:
    """n orders with the answer wanted; one in four asks before it acts, the others claim to have acted."""
    return [(text, _answer(answer, ASKS if i % 4 == 0 else CLAIMS)) for i, (text, answer) in enumerate(orders(n, skip=skip))]


def preferences(n: int, *, skip: int = 0) -> list[Preference]:
    """The same as pairs that differ in the reply alone: to ask is preferred to claiming a deed."""
    return [
        Preference(f"order-{skip + i}", text, _answer(answer, ASKS), _answer(answer, CLAIMS))
        for i, (text, answer) in enumerate(orders(n, skip=skip))
    ]


def _answer(kind: str, reply: str) -> str:
    return dump_output(parse_strict(kind) | {"reply": reply})


def untouched() -> Outcome:
    """The base model as it is."""
    loaded = load_model(PRETRAINED)
    loaded.model = _merged(loaded.model)
    return Outcome(loaded)


def before_pretraining() -> Outcome:
    """The random weights that the base model's pretraining started from."""
    loaded = load_model(PRETRAINED)
    config = read_lineage(model_folder(PRETRAINED))["config"]
    loaded.model = _merged(new_model(SIZES[config["size"]], loaded.tokenizer, config["seed"]))
    return Outcome(loaded)


def tuned(pairs: Sequence[Order], *, method: str = "full", rate: float = 1e-3, passes: int = 6, **settings: Any) -> Outcome:
    """The base model after supervised tuning on `pairs` by the real loop, what was trained merged into its weights.

    The same rows and settings again cost nothing.

    Args:
        method, settings: what is trained, and other values of `SftConfig`. LoRA's scale is twice its rank unless it is given.
    """
    if "rank" in settings:
        settings = {"alpha": 2 * settings["rank"]} | settings
    options = {"base": PRETRAINED, "method": method, "rate": rate, "passes": passes, **settings}
    key = repr((list(pairs), sorted(options.items())))
    if key not in _TUNED:
        with tempfile.TemporaryDirectory() as folder:
            loaded, run = toy_run(pairs, Path(folder), **options)
            trained = trainable_parameters(loaded.model)
            run.train(dict, progress=False)
        loaded.model = _merged(loaded.model)
        _TUNED[key] = Outcome(loaded, trained, run.tokens, run.seconds)
    return _TUNED[key]


def preferred(start: Outcome, pairs: Sequence[Preference], *, rate: float = 3e-3, passes: int = 3, **settings: Any) -> Outcome:
    """What becomes of `start` (which stays as it is) by DPO on pairs; the model that it starts from is the reference.

    Args:
        settings: other values of `DpoConfig`; without them there is no supervised term, and a moderate gain over the reference is enough.
    """
    loaded = replace(start.loaded, model=copy.deepcopy(start.loaded.model))
    options = {"beta": 0.3, "sft_weight": 0.0, "rank": 4, "alpha": 8} | settings
    config = DpoConfig(learning_rate=rate, epochs=passes, validation_pairs=0, **options)
    with tempfile.TemporaryDirectory() as folder:
        said = train_dpo(loaded, pairs, config, Path(folder), progress=False)
        trained = trainable_parameters(loaded.model)
    loaded.model = _merged(loaded.model)
    return Outcome(loaded, trained, said["tokens"], said["seconds"])


def _merged(model: Any) -> Any:
    """A model without matrices beside its weights, for reading only."""
    merged = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    return merged.eval().requires_grad_(False)


def changes(before: Outcome, after: Outcome) -> list[dict]:
    """The update of each weight, as `ftlab.inside` tells it."""
    return [asdict(update) for update in updates(before.loaded.model, after.loaded.model)]


def strength(before: Outcome, after: Outcome) -> float:
    """|D| / |W| of all matrices in the decoder's layers as one long vector."""
    moved = whole = 0.0
    new = dict(after.loaded.model.named_parameters())
    for name, weight in before.loaded.model.named_parameters():
        if layer_and_kind(name)[0] is not None and weight.dim() == 2:
            moved += (new[name] - weight).double().norm().item() ** 2
            whole += weight.double().norm().item() ** 2
    return (moved / whole) ** 0.5


def scope(before: Outcome, after: Outcome) -> dict[str, float]:
    """Numbers trained, share of all weights in matrices that changed, strength, and the highest effective rank in a layer."""
    found = updates(before.loaded.model, after.loaded.model)
    return {
        "trained": after.trained,
        "changed": overall(found)["in_changed_matrices"],
        "strength": strength(before, after),
        "rank": max(u.effective_rank for u in found if u.layer is not None and u.effective_rank is not None),
    }


def conduct(outcome: Outcome, held_out: Sequence[Order]) -> dict[str, dict]:
    """What a model writes to orders that it has not seen: shares of answers in the form, of the right kind, and that ask."""
    answers = written(outcome, [text for text, _ in held_out])
    found = [_parsed(answer) for answer in answers]
    wanted = [parse_strict(answer)["kind"] for _, answer in held_out]
    hits = {
        "in the form": [bool(one) for one in found],
        "right kind": [one.get("kind") == kind for one, kind in zip(found, wanted, strict=True)],
        "asks first": [one.get("reply") == ASKS for one in found],
    }
    return {name: share(each).as_dict() for name, each in hits.items()}


def written(outcome: Outcome, texts: Sequence[str]) -> list[str]:
    """What a model answers, always by the likeliest token."""
    chats = [[{"role": "user", "content": text}] for text in texts]
    return [answer.text for answer in generate(outcome.loaded, chats, max_new_tokens=40)]


def _parsed(answer: str) -> dict:
    """The answer as JSON if it is in the form that was shown, else {}."""
    try:
        found = parse_strict(answer)
    except ValueError:
        return {}
    right = (
        isinstance(found, dict) and set(found) == {"kind", "reply"} and found["kind"] in KINDS and found["reply"] in (ASKS, CLAIMS)
    )
    return found if right else {}


def pair_scores(outcome: Outcome, pairs: Sequence[Preference]) -> tuple[dict, float]:
    """(share of pairs whose preferred answer is the likelier one, mean log-probability of the preferred answers in nats)."""
    import torch

    encoded_pairs = encode_pairs(pairs, outcome.loaded.tokenizer, 512)
    with torch.inference_mode():
        chosen, rejected = plain_pair_logps(outcome.loaded.model, encoded_pairs)
    return share((chosen > rejected).tolist()).as_dict(), chosen.mean().item()


def facts_kept(outcome: Outcome) -> dict:
    """Share of the facts that pretraining stated most often which the model still recalls."""
    facts = stated_facts(read_lineage(model_folder(PRETRAINED)), KNOWN)
    return recall(outcome.loaded.model, outcome.loaded.tokenizer, facts)["by_exposure"][str(KNOWN)]


def task_loss(outcome: Outcome, held_out: Sequence[Order]) -> float:
    """Mean loss in nats per token of the labelled answers to held-out orders."""
    return mean_loss(
        AnswerLoss(outcome.loaded, whole=True, say=lambda line: None), encoded(held_out, outcome.loaded.tokenizer), WHOLE
    )


def order_texts(loaded: LoadedModel, held_out: Sequence[Order]) -> list[Text]:
    """Held-out orders with their labelled answers, for `ftlab.inside.compare`; the answers' tokens count."""
    return [Text(list(ids), list(range(start, len(ids)))) for ids, start, _ in encoded(held_out, loaded.tokenizer)]


def general_texts(loaded: LoadedModel, n: int = 24, tokens: int = 64) -> list[Text]:
    """Pieces of packages' documentation, the kind of text that the base was trained on; every token but the first counts."""
    end, found = loaded.tokenizer.eos_token_id, []
    for document in small_corpus().documents("held_out"):
        ids = loaded.tokenizer(document.text)["input_ids"]
        pieces = [[end, *ids[at : at + tokens - 1]] for at in range(0, len(ids), tokens)]
        found += [Text(piece, list(range(1, tokens))) for piece in pieces if len(piece) == tokens]
    return found[:: max(1, len(found) // n)][:n]


def choices(outcome: Outcome, text: Text) -> list[str]:
    """The token that a model finds likeliest at each counted place of a text."""
    ids = [row[0] for row in observe(outcome.loaded, [text]).top[0].tolist()]
    return [outcome.loaded.tokenizer.decode([i]) for i in ids]


def text_loss(outcome: Outcome, texts: Sequence[Text]) -> float:
    """Mean loss in nats per counted token."""
    import torch
    from torch.nn.functional import cross_entropy

    losses = []
    with torch.inference_mode():
        for text in texts:
            ids, at = torch.tensor(text.ids), torch.tensor(text.counted)
            logits = outcome.loaded.model(input_ids=ids[None]).logits[0]
            losses.append(cross_entropy(logits[at - 1], ids[at], reduction="none"))
    return torch.cat(losses).mean().item()
