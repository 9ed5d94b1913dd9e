"""The loss that tuning lowers: weighted cross-entropy of the answers' tokens, by the fast decoder where it applies, else by
transformers' own path. Both compute the same; a test compares every gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ftlab.models import LoadedModel, fast_decoder
from ftlab.train.activations import Activations

# input_ids (an array of 32-bit integers for a task's rows: 100,000 of them stay small), prompt_length, one loss weight per label
Example = tuple[Sequence[int], int, Sequence[float]]


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


def plain_loss(model: Any, examples: Sequence[Example]) -> tuple[Any, float]:
    """The loss of any causal LM of transformers.

    The decoder runs on the whole rows, padded on the right (causal attention never looks there); the head on the hidden states that
    predict a labelled token, (M, D) with M the number of labels in the B rows.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils.rnn import pad_sequence

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    rows = [torch.tensor(ids) for ids, _, _ in examples]
    input_ids = pad_sequence(rows, batch_first=True)  # (B, T)
    hidden = causal.base_model(input_ids=input_ids, use_cache=False).last_hidden_state  # (B, T, D)
    where = [torch.arange(start, len(ids)) for ids, start, _ in examples]
    # subtle: the state at position t predicts token t + 1, so labels at `where` are read from the states one before
    picked = torch.cat([hidden[i, at - 1] for i, at in enumerate(where)])  # (M, D)
    losses = cross_entropy(causal.get_output_embeddings()(picked), _labels(examples), reduction="none")  # (M,)
    return _weighted(losses, examples)


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
    return _weighted(token_losses(hidden[states], decoder.head, _labels(examples)), examples)


def _labels(examples: Sequence[Example]) -> Any:
    import torch

    return torch.tensor([token for ids, start, _ in examples for token in ids[start:]])


def _weighted(losses: Any, examples: Sequence[Example]) -> tuple[Any, float]:
    weights = losses.new_tensor([w for _, _, row_weights in examples for w in row_weights])
    return losses @ weights, weights.sum().item()
