"""Greedy decoding with the fast decoder: prompts packed without padding, a shared prefix stored once for all rows, finished rows
dropped in groups.

Each row's own keys and values stand from the left in a cache of their own; attention reads the prefix as one matrix for all rows and
the rest row by row. The result of a row depends on its neighbours only through floating-point rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ftlab.constrain import Choice
from ftlab.llama import FastDecoder, Layer, Tree

GROW = 64  # positions by which the cache grows; also how far attention looks is rounded up to a sixteenth of it, to meet few shapes
DROP = 8  # finished rows leave when they are an eighth of the batch: dropping copies the cache


def prefill(decoder: FastDecoder, prefix: Sequence[int]) -> list[Layer]:
    """Keys and values of a prefix in each layer, (P, K, D)."""
    kept: list[Layer] = []
    decoder.hidden(Tree((tuple(prefix),), (-1,)), kept=kept)
    return kept


class _Cache:
    """Keys and values of B rows, (layers, B, K, room, D), and how many positions of each row are filled."""

    def __init__(self, kept: Sequence[Layer], tree: Tree, prefix: Sequence[Layer] | None):
        self.filled = torch.tensor([len(segment) for segment in tree.segments])  # (B,)
        layers, (_, heads, width) = len(kept), kept[0][0].shape
        shape = (layers, len(tree.segments), heads, int(self.filled.max()) + GROW, width)
        self.keys, self.values = kept[0][0].new_zeros(shape), kept[0][0].new_zeros(shape)
        for layer, (keys, values) in enumerate(kept):
            for row, segment in enumerate(tree.segments):
                self.keys[layer, row, :, : len(segment)] = keys[tree.span(row)].transpose(0, 1)
                self.values[layer, row, :, : len(segment)] = values[tree.span(row)].transpose(0, 1)
        self.prefix = [(k.transpose(0, 1), v.transpose(0, 1)) for k, v in prefix] if prefix else None  # (K, P, D)
        self.before = prefix[0][0].shape[0] if prefix else 0

    def open_position(self) -> None:
        """Make room for one more token in each row and say what each row may see."""
        self.at, self.filled = self.filled, self.filled + 1
        self.rows = torch.arange(len(self.filled))
        longest, room = int(self.filled.max()), self.keys.shape[3]
        if longest > room:
            more = self.keys.new_zeros(*self.keys.shape[:3], GROW, self.keys.shape[4])
            self.keys, self.values = torch.cat([self.keys, more], 3), torch.cat([self.values, more], 3)
        step = GROW // 16
        self.length = min(-(-longest // step) * step, self.keys.shape[3])
        hidden = torch.arange(self.length) >= self.filled[:, None]  # (B, L)
        self.mask = torch.zeros(hidden.shape, dtype=self.keys.dtype).masked_fill_(hidden, float("-inf"))[:, None, None]

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        """One new position: q (B, H, D), k and v (B, K, D) -> (B, H, D)."""
        self.keys[layer][self.rows, :, self.at] = k
        self.values[layer][self.rows, :, self.at] = v
        size, heads, width = q.shape
        groups = k.shape[1]
        keys, values = self.keys[layer][:, :, : self.length], self.values[layer][:, :, : self.length]  # (B, K, L, D)
        q = q.view(size, groups, heads // groups, width) * scale
        scores = q @ keys.transpose(2, 3) + self.mask  # (B, K, G, L)
        if self.prefix is None:
            return (scores.softmax(-1) @ values).reshape(size, heads, width)
        prefix_keys, prefix_values = self.prefix[layer]
        flat = q.transpose(0, 1).reshape(groups, -1, width)  # (K, B·G, D): one product for all rows
        early = (flat @ prefix_keys.transpose(1, 2)).view(groups, size, -1, self.before).transpose(0, 1)
        share = torch.cat([early, scores], -1).softmax(-1)
        seen = share[..., : self.before].transpose(0, 1).reshape(groups, -1, self.before) @ prefix_values
        out = share[..., self.before :] @ values + seen.view(groups, size, -1, width).transpose(0, 1)
        return out.reshape(size, heads, width)

    def keep(self, rows: torch.Tensor) -> None:
        self.keys, self.values, self.filled = self.keys[:, rows], self.values[:, rows], self.filled[rows]


def greedy(
    decoder: FastDecoder,
    prompts: Sequence[Sequence[int]],
    *,
    prefix: Sequence[Layer] | None,
    max_new_tokens: int,
    ended: Callable[[int, int], bool],
    choose: Choice | None = None,
) -> list[list[int]]:
    """Greedy token ids after each prompt.

    Args:
        prompts: token ids of each row after the shared prefix, at least one.
        prefix: keys and values of what stands before all prompts, from `prefill`.
        ended: called with (row, token) for each new token; True ends the row, that token included.
        choose: the token of each row that goes on, from the rows and their logits (B, vocabulary); None: the likeliest.
    """
    tree = Tree(tuple(map(tuple, prompts)), (-1,) * len(prompts))
    kept: list[Layer] = []
    hidden = decoder.hidden(tree, past=prefix, kept=kept)
    last = hidden[torch.tensor(tree.ends) - 1]
    cache = _Cache(kept, tree, prefix)
    del kept, hidden
    answers: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))  # which row each cache row belongs to
    going = [True] * len(prompts)
    for step in range(max_new_tokens):
        logits = last @ decoder.head.T  # (B, vocabulary)
        tokens = logits.argmax(-1)  # (B,)
        if choose:
            on = [i for i, row in enumerate(alive) if going[row]]
            tokens[on] = torch.tensor(choose([alive[i] for i in on], logits[on]))
        for row, token in zip(alive, tokens.tolist(), strict=True):
            if going[row]:
                answers[row].append(token)
                going[row] = not ended(row, token)
        left = [i for i, row in enumerate(alive) if going[row]]
        if not left or step + 1 == max_new_tokens:
            break
        if len(alive) - len(left) >= max(1, len(alive) // DROP):
            rows = torch.tensor(left)
            cache.keep(rows)
            alive, tokens = [alive[i] for i in left], tokens[rows]
        last = _step(decoder, cache, tokens)
    return answers


def _step(decoder: FastDecoder, cache: _Cache, tokens: torch.Tensor) -> torch.Tensor:
    """Last hidden states, (B, hidden), after one more token in each row."""
    cos, sin = decoder.angles(cache.filled + cache.before)
    cache.open_position()
    x: Any = decoder.embedding[tokens]
    for layer, block in enumerate(decoder.blocks):
        q, k, v = block.heads(x, cos, sin)
        x = block.rest(x, cache.attend(layer, q, k, v, decoder.scale))
    return decoder.final_norm(x)
