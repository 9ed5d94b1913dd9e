"""The loss that tuning lowers: weighted cross-entropy of the answers' tokens, by the fast decoder where it applies, else by
transformers' own path. Both compute the same; a test compares every gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from ftlab.models import LoadedModel, fast_decoder
from ftlab.train.activations import Activations
from ftlab.train.examples import Example


class DecoderLoss:
    """What the losses have in common: the fast decoder where it applies, and one line where it does not.

    Attributes:
        decoder: the fast decoder, None where it does not apply.
    """

    def __init__(self, loaded: LoadedModel, say: Callable[[str], None], *, whole: bool = False):
        self.model = loaded.model
        self.decoder, reason = (None, "every weight is trained") if whole else fast_decoder(loaded)
        if reason:
            say(f"The fast path does not apply: {reason}. Training takes transformers' own, slower path.")

    def refresh(self) -> None:
        """To be called after the trained weights changed."""
        if self.decoder is not None:
            self.decoder.refresh()


class AnswerLoss(DecoderLoss):
    """Called with the examples of a micro-batch, gives (weighted sum of the losses of their labels, sum of the weights).

    Args:
        loaded: the model to tune, made trainable already.
        whole: every weight is trained, which transformers' own path does.
        prefix: the tokens that most prompts begin with, computed once per micro-batch.
        checkpoint: less memory, a third more time, in the fast decoder; see `FastDecoder.hidden`.
        activations: kept states, where the rows that have them start; any other rows are computed whole.
        say: told once why the fast decoder does not apply, if it does not.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prefix: Sequence[int] = (),
        *,
        whole: bool = False,
        checkpoint: bool = False,
        activations: Activations | None = None,
        say: Callable[[str], None] = print,
    ):
        super().__init__(loaded, say, whole=whole)
        self.prefix, self.checkpoint, self.activations = tuple(prefix), checkpoint, activations
        self.whole = loaded if whole else None

    def refresh(self) -> None:
        super().refresh()
        if self.whole:  # a decoder that answered validation rows holds copies of the weights as they were
            self.whole._decoder = None

    def __call__(self, examples: Sequence[Example]) -> tuple[Any, float]:
        if self.whole:
            self.refresh()  # before a step too: those copies would take up its memory
        if self.decoder is None:
            return plain_loss(self.model, examples)
        return packed_loss(self.decoder, examples, self.prefix, checkpoint=self.checkpoint, activations=self.activations)

    def token_losses(self, examples: Sequence[Example]) -> Any:
        """What a call weighs and sums: the loss of each label in nats, (M,), example after example."""
        if self.decoder is None:
            return plain_token_losses(self.model, examples)
        return packed_token_losses(self.decoder, examples, self.prefix, checkpoint=self.checkpoint, activations=self.activations)


def plain_loss(model: Any, examples: Sequence[Example]) -> tuple[Any, float]:
    """The loss of any causal LM of transformers."""
    return weighted(plain_token_losses(model, examples), examples)


def plain_token_losses(model: Any, examples: Sequence[Example]) -> Any:
    """The loss of each label, (M,), of any causal LM of transformers.

    The decoder runs on the whole rows, padded on the right (causal attention never looks there); the head on the positions that
    predict a labelled token alone, M in the B rows.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    input_ids = pad_sequence([torch.tensor(ids) for ids, _, _ in examples], batch_first=True).to(model.device)  # (B, T)
    # subtle: the state at position t predicts token t + 1, so the logits of a label are read one before it
    logits = logits_at(model, input_ids, [slice(start - 1, len(ids) - 1) for ids, start, _ in examples])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # 16 bits are too few to add losses in
    return cross_entropy(logits, _labels(examples).to(logits.device), reduction="none")


def logits_at(model: Any, input_ids: Any, where: Sequence[slice]) -> Any:
    """The logits of any causal LM at some positions of each row, (M, V): by its head on those alone, where the head is all there is.

    Args:
        input_ids: (B, T), padded on the right.
        where: a slice of positions per row, M in all.
    """
    import torch

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not _head_is_all(causal):
        logits = causal(input_ids=input_ids, use_cache=False).logits  # (B, T, V)
        return torch.cat([logits[i, at] for i, at in enumerate(where)])
    hidden = causal.base_model(input_ids=input_ids, use_cache=False).last_hidden_state  # (B, T, D)
    return causal.get_output_embeddings()(torch.cat([hidden[i, at] for i, at in enumerate(where)]))


_HEAD_IS_ALL: "WeakKeyDictionary[Any, bool]" = WeakKeyDictionary()


def _head_is_all(causal: Any) -> bool:
    """Whether logits are what the head makes of the last states. Some families cap or scale them (Gemma 2, Cohere, Granite): asked of
    the model itself, on three tokens, so that no list of families has to be kept."""
    import torch

    if causal not in _HEAD_IS_ALL:
        ids = torch.tensor([[0, 1, 2]], device=causal.device)
        with torch.no_grad():
            whole = causal(input_ids=ids, use_cache=False).logits
            alone = causal.get_output_embeddings()(causal.base_model(input_ids=ids, use_cache=False).last_hidden_state)
        _HEAD_IS_ALL[causal] = torch.allclose(whole, alone.to(whole.dtype), rtol=1e-4, atol=1e-4)
    return _HEAD_IS_ALL[causal]


def packed_loss(
    decoder: Any,
    examples: Sequence[Example],
    prefix: Sequence[int],
    *,
    checkpoint: bool = False,
    activations: Activations | None = None,
) -> tuple[Any, float]:
    """The same loss by the fast decoder (`FastDecoder`), its rows packed into a tree under the shared prefix.

    Args:
        activations: kept states, from which the decoder starts if they hold every row.
    """
    losses = packed_token_losses(decoder, examples, prefix, checkpoint=checkpoint, activations=activations)
    return weighted(losses, examples)


def packed_token_losses(
    decoder: Any,
    examples: Sequence[Example],
    prefix: Sequence[int],
    *,
    checkpoint: bool = False,
    activations: Activations | None = None,
) -> Any:
    """The loss of each label, (M,), by the fast decoder; see `packed_loss`."""
    import torch

    from ftlab.llama import rows_tree, token_losses

    # every row keeps the token before its first label to itself, so that the prefix never predicts a label
    prefix = prefix[: min(start for _, start, _ in examples) - 1]
    rows = [ids for ids, _, _ in examples]
    tree = rows_tree(rows, prefix)
    first = len(tree.segments) - len(examples)  # 1 if the tree has a root for the prefix
    starts = [tree.at(first + i, start - 1) for i, (_, start, _) in enumerate(examples)]
    states = torch.cat([torch.arange(at, at + len(ids) - start) for at, (ids, start, _) in zip(starts, examples, strict=True)])
    entered = activations.start(rows, tree) if activations else None
    hidden = decoder.hidden(tree, checkpoint=checkpoint, start=entered)  # (N, D)
    return token_losses(hidden[states], decoder.head, _labels(examples))


def _labels(examples: Sequence[Example]) -> Any:
    import torch

    return torch.tensor([token for ids, start, _ in examples for token in ids[start:]])


def weighted(losses: Any, examples: Sequence[Example]) -> tuple[Any, float]:
    """(weighted sum of the labels' losses, (M,); sum of the weights)."""
    weights = losses.new_tensor([w for _, _, row_weights in examples for w in row_weights])
    return losses @ weights, weights.sum().item()
