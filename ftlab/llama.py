"""A Llama-like decoder for one CPU, computed with as few and as large matrix products as the arithmetic allows.

It reads the weights of a transformers model (with plain LoRA from peft, or without) and computes the same numbers:

- *Packed trees instead of padded rows.* All tokens of a micro-batch lie in one row of N tokens, cut into segments. A segment sees its
  ancestors and its own past. A prefix that many rows share is one segment and computed once, with its exact gradient, because each
  row's attention reads it; a preference pair is a prompt with two children. Nothing is padded.
- *Fused, merged weights.* Projections that read the same input (query, key, value; gate, up) are one product with W' = W + s·B·A.
  The base weights are never changed; `refresh` rebuilds W' after each optimizer step.
- *Few passes over memory.* Normalisation, rotation, gating and the loss have backward passes of their own.

Source: the algebra of Hu et al. (2021), LoRA; the tree is our own arrangement of the attention mask. Tests hold every gradient against
transformers and peft. `why_not` says for which models it does not apply; everything else then takes transformers' own path.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.autograd import Function
from torch.nn.functional import linear, silu
from torch.utils.checkpoint import checkpoint as run_again

Layer = tuple[torch.Tensor | None, torch.Tensor | None]  # keys and values of one layer
FAMILIES = ("llama", "qwen2", "mistral")  # the same blocks; they differ in biases and sizes, which are read off the weights
PROJECTIONS = [*(("self_attn", f"{x}_proj") for x in "qkvo"), *(("mlp", f"{x}_proj") for x in ("gate", "up", "down"))]


@dataclass(frozen=True)
class Tree:
    """Token segments, each the child of an earlier one (parent -1: a root), packed behind one another."""

    segments: tuple[tuple[int, ...], ...]
    parents: tuple[int, ...]

    @cached_property
    def ends(self) -> list[int]:
        """Where each segment ends in the packed row."""
        total, ends = 0, []
        for segment in self.segments:
            total += len(segment)
            ends.append(total)
        return ends

    def span(self, i: int) -> slice:
        return slice(self.ends[i] - len(self.segments[i]), self.ends[i])

    def ancestors(self, i: int) -> list[int]:
        """From the root down to the parent."""
        line: list[int] = []
        while (i := self.parents[i]) >= 0:
            line.insert(0, i)
        return line

    def at(self, leaf: int, position: int) -> int:
        """Where in the packed row a segment's token at `position`, counted from the root, stands."""
        return self.span(leaf).start + position - int(self.position_ids[self.span(leaf).start])

    @cached_property
    def input_ids(self) -> torch.Tensor:  # (N,)
        return torch.tensor([token for segment in self.segments for token in segment])

    @cached_property
    def position_ids(self) -> torch.Tensor:  # (N,): a child goes on counting where its parent ended
        starts: list[int] = []
        for parent in self.parents:
            starts.append(starts[parent] + len(self.segments[parent]) if parent >= 0 else 0)
        return torch.cat([torch.arange(a, a + len(s)) for a, s in zip(starts, self.segments, strict=True)])


def rows_tree(rows: Sequence[Sequence[int]], prefix: Sequence[int] = ()) -> Tree:
    """Rows as a tree: `prefix` is a root and each row that begins with it its child; any other row is a root of its own."""
    start = tuple(prefix)
    shared = [bool(start) and len(row) > len(start) and tuple(row[: len(start)]) == start for row in rows]
    if sum(shared) < 2:
        return Tree(tuple(map(tuple, rows)), (-1,) * len(rows))
    segments = (start, *(tuple(row[len(start) :]) if has else tuple(row) for row, has in zip(rows, shared, strict=True)))
    return Tree(segments, (-1, *(0 if has else -1 for has in shared)))


def why_not(model: Any) -> str | None:
    """Why this decoder cannot stand in for `model`, in a few words; None if it can."""
    causal = _causal(model)
    config = causal.config
    if config.model_type not in FAMILIES:
        return f"the architecture {config.model_type} is not one of {', '.join(FAMILIES)}"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "it attends through a sliding window"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}, not silu"
    if any(kind in getattr(causal.model.rotary_emb, "rope_type", "default") for kind in ("dynamic", "longrope")):
        return "its position encoding changes with the length"
    if hasattr(model, "peft_config") and (reason := _more_than_lora(model.peft_config.values(), causal)):
        return reason
    for layer in causal.model.layers:
        for part, name in PROJECTIONS:
            found = getattr(getattr(layer, part), name, None)
            if type(getattr(found, "base_layer", found)) is not torch.nn.Linear:
                return f"its {name} is not a linear layer but {type(found).__name__}"
    weights = {causal.model.embed_tokens.weight, causal.lm_head.weight}
    if {w.device.type for w in weights} != {"cpu"} or {w.dtype for w in weights} - {torch.float32, torch.float64}:
        return "it is not in 32-bit floats on the CPU"
    return None


def _more_than_lora(configs: Iterable[Any], causal: Any) -> str | None:
    """Why the adapters on `causal` do more than what is computed here; None if they are plain LoRA on linear layers."""
    from peft.utils.other import AuxiliaryTrainingWrapper  # holds a trained copy, of a module or of single tokens

    if any(config.is_prompt_learning for config in configs):
        return "its adapter puts virtual tokens before the prompt"
    for name, module in causal.named_modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            return f"its adapter has a copy of {name}"
        if hasattr(module, "base_layer") and (reason := _odd_adapter(name, module)):
            return reason
    trained = (name for name, p in causal.named_parameters() if p.requires_grad and not {"lora_A", "lora_B"} & set(name.split(".")))
    return next((f"{name} is trained beside the LoRA matrices" for name in trained), None)


def _odd_adapter(name: str, layer: Any) -> str | None:
    from peft.tuners.lora import Linear

    if type(layer) is not Linear or type(layer.base_layer) is not torch.nn.Linear or name.endswith("lm_head"):
        return f"the adapter on {name} is not plain LoRA on a linear layer"
    if layer.merged or layer.disable_adapters or len(layer.active_adapters) != 1:
        return f"{name} has {len(layer.active_adapters)} active adapters, merged or switched off; expected one"
    (active,) = layer.active_adapters
    if active in layer.lora_variant:
        return f"the adapter on {name} is a variant of LoRA (DoRA, aLoRA or another)"
    if getattr(layer.lora_dropout[active], "p", 0.0) > 0 or layer.lora_B[active].bias is not None:
        return f"the adapter on {name} uses dropout or a bias"
    return None


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@dataclass(frozen=True)
class _Lora:
    """One adapted layer inside a fused one: its base weight and LoRA matrices, and the rows and ranks it takes up there."""

    base: torch.Tensor  # (out, in)
    rows: slice
    ranks: slice
    a: torch.Tensor  # (r, in)
    b: torch.Tensor  # (out, r)
    scale: float


class FusedLinear:
    """Linear layers that read the same input, as one matrix: y = x·W'ᵀ + b, with the gradients of their LoRA matrices.

    Args:
        layers: torch or peft linear layers; `why_not` has looked at them before.
    """

    def __init__(self, layers: Sequence[Any]):
        self.bases = [getattr(layer, "base_layer", layer) for layer in layers]
        self.ends: list[int] = []
        self.lora: list[_Lora] = []
        rank = end = 0
        for layer, base in zip(layers, self.bases, strict=True):
            start, end = end, end + base.weight.shape[0]
            self.ends.append(end)
            if base is not layer:
                (name,) = layer.active_adapters
                a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
                self.lora.append(_Lora(base.weight, slice(start, end), slice(rank, rank + len(a)), a, b, layer.scaling[name]))
                rank += len(a)
        self.matrices = [m for part in self.lora for m in (part.a, part.b)]
        weights = [base.weight.detach() for base in self.bases]
        self.weight = torch.cat(weights) if len(weights) > 1 or self.lora else weights[0]  # (out, in)
        self.bias = torch.cat([b.bias.detach() for b in self.bases]) if self.bases[0].bias is not None else None
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        for part in self.lora:
            torch.addmm(part.base, part.b, part.a, alpha=part.scale, out=self.weight[part.rows])
        self.a = torch.cat([part.a for part in self.lora]) if self.lora else None  # (R, in)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # (N, in) -> (N, out)
        if torch.is_grad_enabled():
            return _Fused.apply(x, self, *self.matrices)
        return linear(x, self.weight, self.bias)


class _Fused(Function):
    """With g the gradient of y: dx = g·W', dB = s·gᵀ·(x·Aᵀ), dA = s·(g·B)ᵀ·x. W' gets none."""

    @staticmethod
    def forward(ctx: Any, x: Any, fused: FusedLinear, *matrices: Any) -> Any:
        ctx.save_for_backward(x)
        ctx.fused = fused  # not saved for backward: `refresh` runs between steps only
        return linear(x, fused.weight, fused.bias)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,), fused = ctx.saved_tensors, ctx.fused
        grads: list[Any] = [None] * len(fused.matrices)
        if any(ctx.needs_input_grad[2:]):
            xa = x @ fused.a.T  # (N, R)
            gb = torch.cat([g[:, part.rows] @ part.b for part in fused.lora], dim=1)  # (N, R)
            da = gb.T @ x  # (R, in)
            for i, part in enumerate(fused.lora):
                grads[2 * i] = da[part.ranks] * part.scale
                grads[2 * i + 1] = (g[:, part.rows].T @ xa[:, part.ranks]).mul_(part.scale)
        return (g @ fused.weight if ctx.needs_input_grad[0] else None), None, *grads


class _RMSNorm(Function):
    """y = w·x/rms(x). Source: Zhang & Sennrich (2019), Root Mean Square Layer Normalization."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, eps: float) -> Any:
        inverse = x.square().mean(-1, keepdim=True).add_(eps).rsqrt_()  # (N, 1)
        ctx.save_for_backward(x, inverse)
        ctx.weight = weight
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, inverse = ctx.saved_tensors
        gw, unit = g * ctx.weight, x * inverse
        return gw.addcmul_(unit, (gw * unit).mean(-1, keepdim=True), value=-1).mul_(inverse), None, None


class _Gate(Function):
    """silu(gate)·up for the fused (N, 2F) product of both. Source: Shazeer (2020), GLU Variants Improve Transformer."""

    @staticmethod
    def forward(ctx: Any, both: Any) -> Any:
        ctx.save_for_backward(both)
        gate, up = both.chunk(2, dim=-1)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (both,) = ctx.saved_tensors
        gate, up = both.chunk(2, dim=-1)
        grads = torch.empty_like(both)
        left, right = grads.chunk(2, dim=-1)
        left.copy_(torch.ops.aten.silu_backward(g * up, gate))
        right.copy_(silu(gate).mul_(g))
        return grads


class _Rotate(Function):
    """Rotary positions on (N, H, D). The backward pass rotates back. Source: Su et al. (2021), RoFormer."""

    @staticmethod
    def forward(ctx: Any, x: Any, cos: Any, sin: Any) -> Any:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return _rotated(g, *ctx.saved_tensors, -1.0), None, None


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, sign: float) -> torch.Tensor:
    y = x * cos  # cos, sin: (N, 1, D), both halves of D alike
    half = x.shape[-1] // 2
    y[..., :half].addcmul_(x[..., half:], sin[..., half:], value=-sign)
    y[..., half:].addcmul_(x[..., :half], sin[..., :half], value=sign)
    return y


def _per_head(x: torch.Tensor, groups: int) -> torch.Tensor:
    """(S, K·G, D) -> (K, G·S, D): the query heads that share a key head stand in one matrix."""
    size, heads, width = x.shape
    return x.view(size, groups, heads // groups, width).permute(1, 2, 0, 3).reshape(groups, -1, width)


def _back(x: torch.Tensor, size: int) -> torch.Tensor:
    """(K, G·S, D) -> (S, K·G, D), the way back of `_per_head`."""
    groups, _, width = x.shape
    return x.view(groups, -1, size, width).permute(2, 0, 1, 3).reshape(size, -1, width)


@dataclass(frozen=True)
class _Look:
    """What one segment looks at: itself, the spans on its line from the root, and the mask of its own future."""

    own: slice
    line: tuple[slice, ...]
    mask: torch.Tensor  # (1, G·S, L), 0 or -inf, L the length of the line


def _looks(tree: Tree, per_key_head: int, dtype: torch.dtype, past: int) -> list[_Look]:
    looks = []
    for i, segment in enumerate(tree.segments):
        line = tuple(tree.span(j) for j in (*tree.ancestors(i), i))
        length, size = past + sum(s.stop - s.start for s in line), len(segment)
        mask = torch.full((size, length), float("-inf"), dtype=dtype).triu(length - size + 1)
        looks.append(_Look(line[-1], line, mask.repeat(per_key_head, 1)[None]))
    return looks


def _line(x: torch.Tensor, line: Sequence[slice], past: torch.Tensor | None = None) -> torch.Tensor:
    """(N, K, D) -> (K, L, D): the rows of x on a line, `past` (P, K, D) before them."""
    parts = [x[span] for span in line] if past is None else [past, *(x[span] for span in line)]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).transpose(0, 1)


class _TreeAttention(Function):
    """softmax(q·kᵀ/√D + mask)·v, segment by segment. Source: Vaswani et al. (2017); grouped heads: Ainslie et al. (2023)."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, looks: list[_Look], scale: float, past: Any = (None, None)) -> Any:
        out, kept = torch.empty_like(q), []
        for look in looks:
            keys, values = _line(k, look.line, past[0]), _line(v, look.line, past[1])
            scores = torch.baddbmm(look.mask, _per_head(q[look.own], k.shape[1]), keys.transpose(1, 2), alpha=scale)
            kept.append(scores.softmax(-1))  # (K, G·S, L)
            out[look.own] = _back(kept[-1] @ values, look.own.stop - look.own.start)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.looks, ctx.scale = looks, scale
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        q, k, v, *kept = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for look, share in zip(ctx.looks, kept, strict=True):
            keys, values = _line(k, look.line), _line(v, look.line)
            queries, out = _per_head(q[look.own], k.shape[1]), _per_head(g[look.own], k.shape[1])
            ds = torch._softmax_backward_data(out @ values.transpose(1, 2), share, -1, share.dtype).mul_(ctx.scale)
            dq[look.own] = _back(ds @ keys, look.own.stop - look.own.start)
            key_grads, value_grads = (ds.transpose(1, 2) @ queries), (share.transpose(1, 2) @ out)  # (K, L, D)
            at = 0
            for span in look.line:
                part = slice(at, at := at + span.stop - span.start)
                dk[span] += key_grads[:, part].transpose(0, 1)
                dv[span] += value_grads[:, part].transpose(0, 1)
        return dq, dk, dv, None, None, None


class _Block:
    """One decoder layer."""

    def __init__(self, layer: Any, head_dim: int):
        attention, mlp = layer.self_attn, layer.mlp
        self.qkv = FusedLinear([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = FusedLinear([attention.o_proj])
        self.gate_up = FusedLinear([mlp.gate_proj, mlp.up_proj])
        self.down = FusedLinear([mlp.down_proj])
        self.norms = [(n.weight.detach(), n.variance_epsilon) for n in (layer.input_layernorm, layer.post_attention_layernorm)]
        self.head_dim = head_dim
        self.query_end, self.key_end = self.qkv.ends[0], self.qkv.ends[1]

    def fused(self) -> list[FusedLinear]:
        return [self.qkv, self.out, self.gate_up, self.down]

    def heads(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Queries (N, H, D), keys and values (N, K, D) of x (N, hidden), positions applied."""
        qkv = self.qkv(_RMSNorm.apply(x, *self.norms[0]))
        turned = _Rotate.apply(qkv[:, : self.key_end].unflatten(1, (-1, self.head_dim)), cos, sin)
        q, k = turned.split([self.query_end // self.head_dim, (self.key_end - self.query_end) // self.head_dim], dim=1)
        return q, k, qkv[:, self.key_end :].unflatten(1, (-1, self.head_dim))

    def rest(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """From the heads' output (N, H, D) to the layer's output (N, hidden)."""
        x = x + self.out(attended.flatten(1))
        return x + self.down(_Gate.apply(self.gate_up(_RMSNorm.apply(x, *self.norms[1]))))


class FastDecoder:
    """The decoder of a transformers model; see the module's first lines.

    Args:
        model: a causal LM, or a peft model with plain LoRA on it, for which `why_not` gives None. Its weights are read, not copied,
            except where projections are fused.


    Attributes:
        head: the output weights, (V, hidden), which no adapter touches.
    """

    def __init__(self, model: Any):
        causal = _causal(model)
        decoder, config = causal.model, causal.config
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.per_key_head = config.num_attention_heads // config.num_key_value_heads
        self.scale = self.head_dim**-0.5
        self.embedding, self.head = decoder.embed_tokens.weight.detach(), causal.lm_head.weight.detach()
        self.blocks = [_Block(layer, self.head_dim) for layer in decoder.layers]
        self.norm = (decoder.norm.weight.detach(), decoder.norm.variance_epsilon)
        self.rotary = decoder.rotary_emb

    def refresh(self) -> None:
        """Rebuild the merged weights after the LoRA matrices changed."""
        for block in self.blocks:
            for fused in block.fused():
                fused.refresh()

    def angles(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin for each position, (N, 1, D)."""
        cos, sin = self.rotary(self.embedding[:1], position_ids[None])
        return cos[0][:, None], sin[0][:, None]

    def hidden(
        self,
        tree: Tree,
        *,
        checkpoint: bool = False,
        kept: list | None = None,
        past: Sequence[Layer] | None = None,
        start: tuple[int, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Last hidden states of all tokens, normed, (N, hidden).

        Args:
            checkpoint: keep only each layer's input for the backward pass and compute the rest again: less memory, a third more time.
            kept: a list that gets each layer's (keys, values), (N, K, D): what generation goes on from.
            past: keys and values, (P, K, D) in each layer, of tokens that stand before every root. For use without gradients
                only: the backward pass does not know them.
            start: (layer, states that enter it, (N, hidden)), from `entering`; the layers before it are not computed.

        Raises:
            ValueError: `past` is given while gradients are on.
        """
        if past and torch.is_grad_enabled():
            raise ValueError("hidden: expected no gradients with `past`, found them on; call it under torch.no_grad().")
        first, x = start or (0, self.embedding[tree.input_ids])
        return self.final_norm(self._through(self.blocks[first:], x, tree, checkpoint, kept, past))

    @torch.no_grad()
    def entering(self, tree: Tree, layer: int, *, kept: list | None = None, past: Sequence[Layer] | None = None) -> torch.Tensor:
        """The states that enter `layer` (0 is the first), (N, hidden), without gradient; `kept` and `past` of the layers before it."""
        return self._through(self.blocks[:layer], self.embedding[tree.input_ids], tree, False, kept, past)

    def _through(
        self,
        blocks: Sequence[_Block],
        x: torch.Tensor,
        tree: Tree,
        checkpoint: bool,
        kept: list | None,
        past: Sequence[Layer] | None,
    ) -> torch.Tensor:
        """(N, hidden) before `blocks` -> (N, hidden) after them."""
        before = past[0][0].shape[0] if past else 0
        cos, sin = self.angles(tree.position_ids + before)
        looks = _looks(tree, self.per_key_head, self.embedding.dtype, before)

        def run(block: _Block, x: torch.Tensor, earlier: Layer) -> torch.Tensor:
            q, k, v = block.heads(x, cos, sin)
            if kept is not None:
                kept.append((k, v))
            return block.rest(x, _TreeAttention.apply(q, k, v, looks, self.scale, earlier))

        for block, earlier in zip(blocks, past or [(None, None)] * len(blocks), strict=True):
            if checkpoint and torch.is_grad_enabled():
                x = run_again(run, block, x, earlier, use_reentrant=False)
            else:
                x = run(block, x, earlier)
        return x

    def final_norm(self, x: torch.Tensor) -> torch.Tensor:
        return _RMSNorm.apply(x, *self.norm)


class _TokenLosses(Function):
    """−log softmax(h·Eᵀ)[label] for each row of h, in pieces, so that the (M, V) matrix never exists whole.

    subtle: the gradient of h is finished in the forward pass except for the factor that arrives from above, so each piece's
    probabilities can be dropped at once.
    """

    PIECE = 128

    @staticmethod
    def forward(ctx: Any, h: Any, head: Any, labels: Any) -> Any:
        losses, grads = h.new_empty(len(h)), torch.empty_like(h)
        room = h.new_empty(min(len(h), _TokenLosses.PIECE), len(head))  # used by one piece after the other
        for start in range(0, len(h), _TokenLosses.PIECE):
            rows = slice(start, start + _TokenLosses.PIECE)
            at = labels[rows, None]
            logits = torch.mm(h[rows], head.T, out=room[: len(at)])  # (m, V)
            total = logits.logsumexp(-1, keepdim=True)
            losses[rows] = (total - logits.gather(1, at))[:, 0]
            if ctx.needs_input_grad[0]:
                share = logits.sub_(total).exp_().scatter_add_(1, at, logits.new_full(at.shape, -1.0))
                grads[rows] = share @ head
        ctx.save_for_backward(grads)
        return losses

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return ctx.saved_tensors[0] * g[:, None], None, None


def token_losses(h: torch.Tensor, head: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats of each label, (M,), from the hidden states that predict it, (M, hidden), and the head, (V, hidden)."""
    return _TokenLosses.apply(h, head, labels)
