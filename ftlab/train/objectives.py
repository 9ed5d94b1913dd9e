"""What pretraining asks of a model: the next token, the middle of a text (fill-in-the-middle), or single hidden tokens (masked).

All three make the same batch of packed blocks into inputs and labels; labels[b, t] is what position t has to say, or `NOTHING`. So one
loss serves them, the same as in tuning: the cross-entropy at the positions that carry a label.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Any

NOTHING = -100  # torch's sign for a position without a label
EOS, PAD, START = "<|im_end|>", "<|endoftext|>", "<|im_start|>"
PREFIX, SUFFIX, MIDDLE, MASK = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|mask|>"
SPECIALS = (PAD, START, EOS, PREFIX, SUFFIX, MIDDLE, MASK)
FILL_SHARE = 0.5  # of the blocks whose middle is asked for; the others stay as they are, so that plain text is still learnt
MASK_SHARE = 0.15  # of the tokens that are hidden


@dataclass(frozen=True)
class Batch:
    """Inputs and labels, arrays (B blocks, T tokens); `both_ways`: every position sees the whole block, not only its past."""

    input_ids: Any
    labels: Any
    both_ways: bool = False

    def part(self, start: int, end: int) -> "Batch":
        return Batch(self.input_ids[start:end], self.labels[start:end], self.both_ways)

    @property
    def asked(self) -> int:
        """Positions with a label."""
        return int((self.labels != NOTHING).sum())


def next_token(blocks: Any, draw: Any = None, ids: dict[str, int] | None = None) -> Batch:
    """Each position says the token after it."""
    import numpy as np

    labels = np.full_like(blocks, NOTHING)
    labels[:, :-1] = blocks[:, 1:]
    return Batch(blocks, labels)


def fill_in_the_middle(blocks: Any, draw: Any, ids: dict[str, int]) -> Batch:
    """Half of the blocks are cut in three and told as suffix, prefix, middle; then each position says the token after it.

    The suffix comes first, so that the middle follows its prefix as in plain text. With the prefix first, a model of 0.7 M parameters did
    not learn in 200,000 tokens to look back over the suffix: it was far worse at gaps than a next-token model.

    The length of the middle is drawn evenly on a logarithmic scale, so that short gaps are met as often as long ones. A block keeps its
    length: four of its tokens give way to the three signs and the end of the middle.

    Source: Bavarian et al. (2022), Efficient Training of Language Models to Fill in the Middle; this is their order SPM.
    """
    cut = blocks.copy()
    for row in range(len(blocks)):
        if draw.random() < FILL_SHARE:
            content = blocks[row, :-4]
            size = round((len(content) / 2) ** draw.random())  # 1 to half of the content
            start = int(draw.integers(0, len(content) - size + 1))
            cut[row] = told_around(content, start, size, ids)
    return next_token(cut)


def told_around(content: Any, start: int, size: int, ids: dict[str, int]) -> list[int]:
    """A text as suffix, prefix and then its middle of `size` tokens from `start` on, with the signs; four tokens longer."""
    before, middle, after = content[:start], content[start : start + size], content[start + size :]
    return [ids[PREFIX], ids[SUFFIX], *after, ids[MIDDLE], *before, *middle, ids[EOS]]


def masked(blocks: Any, draw: Any, ids: dict[str, int]) -> Batch:
    """Some tokens are hidden behind a sign; their own positions, which see the whole block, say what stood there.

    Source: Devlin et al. (2019), BERT; every hidden token is replaced by the sign here, none by another word.
    """
    import numpy as np

    hidden = draw.random(blocks.shape) < MASK_SHARE
    hidden[:, 0] |= ~hidden.any(axis=1)  # a block with nothing to say would be a wasted pass
    labels = np.where(hidden, blocks, NOTHING)
    return Batch(np.where(hidden, ids[MASK], blocks), labels, both_ways=True)


OBJECTIVES: dict[str, Callable[[Any, Any, dict[str, int]], Batch]] = {
    "next-token": next_token,
    "fill-in-the-middle": fill_in_the_middle,
    "masked": masked,
}


def summed_loss(model: Any, batch: Batch, each: bool = False) -> Any:
    """Cross-entropy in nats, summed over the labels of a batch; with `each`, an array (B, T) with 0 where there is no label."""
    import torch
    from torch.nn.functional import cross_entropy

    device = next(model.parameters()).device
    ids = torch.as_tensor(batch.input_ids, device=device)
    labels = torch.as_tensor(batch.labels, device=device)
    everything = torch.ones(len(ids), 1, ids.shape[1], ids.shape[1], dtype=torch.bool, device=device) if batch.both_ways else None
    with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
        logits = model(input_ids=ids, attention_mask=everything, use_cache=False).logits  # (B, T, V)
    how = "none" if each else "sum"
    found = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=NOTHING, reduction=how)
    return found.view_as(ids) if each else found


def bits(nats: float) -> float:
    return nats / log(2)


def gap_batch(blocks: Any, at: int, objective: str, ids: dict[str, int]) -> tuple[Batch, int]:
    """The question for the one token at position `at` of each block, put as a model of this objective can best be asked.

    Next-token sees what stands before; the others see both sides. Four tokens at the end of each block are left out for all three, which
    is what the signs of fill-in-the-middle take.

    Returns:
        the batch, with one label a block, and the position of that label.
    """
    import numpy as np

    content = blocks[:, :-4]
    if objective == "masked":
        inputs, position = content.copy(), at
        inputs[:, at] = ids[MASK]
    elif objective == "fill-in-the-middle":
        inputs, position = np.array([told_around(row, at, 1, ids) for row in content]), -3  # before the middle and the end
    else:
        inputs, position = content, at - 1
    labels = np.full_like(inputs, NOTHING)
    labels[:, position] = content[:, at]
    return Batch(inputs, labels, both_ways=objective == "masked"), position
