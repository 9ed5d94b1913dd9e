"""Generation in batches, greedy or drawn, made for many prompts that begin alike: the shared prefix is computed once.

Rows are sorted by length, finished rows leave the batch, and the results come back in the order asked. The fast decoder does the work
where it applies (`decode`), else transformers' model with left padding; CTranslate2 does it when asked (`ct2`).
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftlab.chat import prompt_text
from ftlab.ct2 import COMPUTE_TYPES, greedy_ct2, open_generator
from ftlab.errors import DataError, UsageError
from ftlab.models import LoadedModel, fast_decoder, free_memory_mb
from ftlab.sample import DrawnChoice, Sampling

if TYPE_CHECKING:
    from ftlab.constrain import Choice, CopyRules

ENGINES = ("auto", "torch", *COMPUTE_TYPES)
STOPS = ("eos", "json")
MOST_ROWS = 32  # computed together where nobody says how many


@dataclass(frozen=True)
class Generation:
    """One answer: its text without special tokens, its sizes in tokens, whether the model ended it (else: the limit did), and how many
    likelier tokens were turned away by `CopyRules`."""

    text: str
    prompt_tokens: int
    new_tokens: int
    ended: bool
    held: int = 0


def encode_prompt(tokenizer: Any, conversation: Sequence[dict]) -> list[int]:
    """Token ids of a chat up to where the assistant's answer begins. Training and generation both start from here."""
    text = prompt_text(tokenizer, conversation)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def encode_example(tokenizer: Any, conversation: Sequence[dict], completion: str) -> tuple[list[int], int]:
    """(input_ids, prompt_length): the prompt, the answer and one end token. Labels are the positions from prompt_length on.

    Prompt and answer are tokenized apart, so the first `prompt_length` ids are exactly what generation will see.
    """
    prompt = encode_prompt(tokenizer, conversation)
    answer = tokenizer(completion, add_special_tokens=False)["input_ids"]
    return [*prompt, *answer, tokenizer.eos_token_id], len(prompt)


def shared_prefix_length(prompts: Iterable[Sequence[int]]) -> int:
    """How many leading token ids all prompts share, at most one less than the shortest: each row must keep a token of its own."""
    shared, shortest = None, None
    for ids in prompts:  # one at a time: there may be more than fit into memory
        shared = ids if shared is None else shared[: _shared(shared, ids)]
        shortest = min(len(ids), shortest or len(ids))
    return min(len(shared), shortest - 1)


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def generate(
    loaded: LoadedModel,
    conversations: Sequence[Sequence[dict]],
    *,
    max_new_tokens: int = 160,
    batch_size: int | None = None,
    stop: str = "eos",
    engine: str = "auto",
    copies: "CopyRules | None" = None,
    sampling: Sampling | None = None,
    progress: Callable[[int], None] | None = None,
    keep: Callable[[dict[int, Generation]], None] | None = None,
) -> list[Generation]:
    """Answers to `conversations`, in their order: greedy ones, or drawn at random by `sampling`.

    Args:
        loaded: model and tokenizer; the model is used as it stands (merge an adapter first, it is faster).
        conversations: chats ending before the assistant's answer.
        max_new_tokens: limit per answer; an answer cut there has `ended=False`.
        batch_size: rows computed together; memory grows with it. None: as many as half of the free memory holds, at most 32.
        stop: "eos": at the model's end token; "json": also where a JSON object that opened first is complete. The latter saves a
            token a row and hides what the model would have gone on to say, so scores are made with "eos".
        engine: "torch"; "ctranslate2", which gives the same tokens; "ctranslate2-int8", which gives others and needs scores of its
            own; "auto": torch.
        copies: which values of an answer may only be pieces of what the user wrote; see `constrain`. None: every token is free.
        sampling: draw each token instead of taking the likeliest. A chat's place in `conversations` decides its draws with the seed, so a
            chat that is given twice is answered in two ways.
        progress: called with the number of rows just finished.
        keep: called with the answers just finished, by their place in `conversations`, so that an interrupt loses one batch only.

    Raises:
        UsageError: an unknown `stop` or `engine`, an engine that is not installed or cannot hold to `copies` or draw, both of these at
            once, a model that cannot be computed, or too little memory.
        DataError: a prompt leaves no room for an answer in the model's context.
    """
    import torch

    from ftlab.constrain import GuardedChoice
    from ftlab.rows import user_text

    if stop not in STOPS:
        raise UsageError(f"--stop: expected eos or json, found {stop!r}.")
    if engine not in ENGINES:
        raise UsageError(f"--engine: expected one of {', '.join(ENGINES)}, found {engine!r}.")
    if copies and sampling:
        raise UsageError("--constrain copies: expected greedy answers, found a temperature; leave out one of them.")
    if not conversations:
        return []
    prompts = [encode_prompt(loaded.tokenizer, conversation) for conversation in conversations]
    check_room(loaded, prompts, max_new_tokens)
    prefix = prompts[0][: shared_prefix_length(prompts) if len(prompts) > 1 else 0]
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    answers: dict[int, Generation] = {}
    free_mb = free_memory_mb()
    with torch.inference_mode(), _memory_told(len(prompts[order[0]]), max_new_tokens):
        decode = _decoding(loaded, prefix, max_new_tokens, stop, engine, free=not (copies or sampling))
        while len(answers) < len(order):
            longest = len(prompts[order[len(answers)]])
            size = batch_size or rows_that_fit(loaded.model, longest + max_new_tokens, free_mb)
            rows = order[len(answers) : len(answers) + size]
            guarded = GuardedChoice(loaded.tokenizer, copies, [user_text(conversations[i]) for i in rows]) if copies else None
            found = decode([prompts[i] for i in rows], DrawnChoice(sampling, rows) if sampling else guarded)
            held = guarded.held if guarded else [0] * len(rows)
            each = zip(rows, found, held, strict=True)
            done = {i: _generation(loaded.tokenizer, len(prompts[i]), ids, stop, n) for i, ids, n in each}
            answers |= done
            if keep:
                keep(done)
            if progress:
                progress(len(rows))
    return [answers[i] for i in range(len(prompts))]


def rows_that_fit(model: Any, tokens: int, free_mb: float) -> int:
    """How many rows of `tokens` tokens, answers included, are computed together: 1 to 32, by their keys and values in 32 bits.

    They get half of the free memory. A prefix is counted in each row, as transformers' cache holds it.
    """
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    row_bytes = config.num_hidden_layers * 2 * heads * width * 4 * tokens
    return int(max(1, min(MOST_ROWS, free_mb * 1e6 / 2 / row_bytes)))


@contextmanager
def _memory_told(longest: int, max_new_tokens: int) -> Iterator[None]:
    """Turns a failed allocation into one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise UsageError(
            f"--batch-size: expected a batch that fits into memory, found rows of up to {longest} tokens with {max_new_tokens} more for "
            "the answer that do not; lower --batch-size or --max-new-tokens, or shorten the messages."
        ) from None


def _decoding(
    loaded: LoadedModel, prefix: list[int], max_new_tokens: int, stop: str, engine: str, *, free: bool
) -> Callable[[list[list[int]], "Choice | None"], list[list[int]]]:
    """A function from the prompts of a batch, each of which begins with `prefix`, to the token ids of their answers.

    Its second argument chooses each token; where every token is `free` it is None.
    """
    tokenizer = loaded.tokenizer

    def ends(rows: int) -> Callable[[int, int], bool]:
        objects = [JsonEnd() for _ in range(rows)]

        def ended(row: int, token: int) -> bool:
            closes = stop == "json" and objects[row].feed(tokenizer.convert_ids_to_tokens(token))
            return token == tokenizer.eos_token_id or closes

        return ended

    def rest(prompts: list[list[int]]) -> list[list[int]]:
        return [prompt[len(prefix) :] for prompt in prompts]

    if engine in COMPUTE_TYPES:
        if not free:
            raise UsageError(
                f"--engine {engine} chooses every token itself; leave out --constrain and sampling, or take --engine torch."
            )
        generator = open_generator(loaded, engine)
        limits = {"prefix": prefix, "max_new_tokens": max_new_tokens}
        return lambda prompts, _: greedy_ct2(generator, tokenizer, rest(prompts), **limits, ended=ends(len(prompts)))
    decoder, reason = fast_decoder(loaded)
    if decoder is None:
        prefix = prefix if _keeps_all(loaded) else []
        _tell_slow(loaded, reason)
        if not _goes_token_by_token(loaded.model):
            if not free:
                raise UsageError(
                    "--constrain copies: this adapter goes through its own generate, which chooses every token; use --constrain none, "
                    "and greedy answers."
                )
            return lambda prompts, _: _by_own_generate(loaded, prompts, max_new_tokens, ends(len(prompts)))
        cache = _prefill(loaded.model, prefix) if prefix else None
        return lambda prompts, choose: _decode(
            loaded, cache, len(prefix), rest(prompts), max_new_tokens, ends(len(prompts)), choose
        )
    from ftlab.decode import greedy, prefill

    shared = prefill(decoder, prefix) if prefix else None
    return lambda prompts, choose: greedy(
        decoder, rest(prompts), prefix=shared, max_new_tokens=max_new_tokens, ended=ends(len(prompts)), choose=choose
    )


def _tell_slow(loaded: LoadedModel, reason: str | None) -> None:
    if not loaded.told_slow:
        print(f"{loaded.name}: the fast decoder does not apply: {reason}. Answers come from the slower path.", file=sys.stderr)
        loaded.told_slow = True


def _keeps_all(loaded: LoadedModel) -> bool:
    """Whether each layer's cache keeps all positions, so that rows can go on from a shared prefix with padding behind it.

    Raises:
        UsageError: the model keeps a state instead of positions, into which padding would be mixed.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

    layers = DynamicCache(config=loaded.model.config).layers
    if getattr(loaded.model, "_is_stateful", False) or any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers):
        raise UsageError(
            f"--model {loaded.name}: expected a model whose layers attend to keys and values, found {loaded.model.config.model_type}, "
            "which keeps a running state; choose another model."
        )
    return all(type(layer) is DynamicLayer for layer in layers)


def _goes_token_by_token(model: Any) -> bool:
    """Whether a model gives right answers when called with new tokens and a cache of ours. One with an adapter that adds virtual
    tokens or looks for a mark in the prompt does not: peft does its work in `generate`."""
    configs = model.peft_config.values() if hasattr(model, "get_base_model") else []
    return all(config.peft_type == "LORA" and not config.alora_invocation_tokens for config in configs)


def _by_own_generate(
    loaded: LoadedModel, prompts: list[list[int]], max_new_tokens: int, ended: Callable[[int, int], bool]
) -> list[list[int]]:
    """Greedy token ids by the model's own `generate`, rows of one length together: virtual tokens and padding do not mix."""
    import torch
    from transformers import GenerationConfig

    ids = {"eos_token_id": loaded.tokenizer.eos_token_id, "pad_token_id": loaded.tokenizer.pad_token_id}
    config = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False, **ids)
    answers: list[list[int]] = [[] for _ in prompts]
    for length in sorted({len(prompt) for prompt in prompts}):
        rows = [i for i, prompt in enumerate(prompts) if len(prompt) == length]
        going = dict.fromkeys(rows, True)

        def stopped(input_ids: Any, scores: Any, rows: list[int] = rows, going: dict[int, bool] = going, **kwargs: Any) -> Any:
            for row, token in zip(rows, input_ids[:, -1].tolist(), strict=True):
                if going[row]:
                    answers[row].append(token)
                    going[row] = not ended(row, token)
            return torch.tensor([not going[row] for row in rows], device=input_ids.device)

        batch = torch.tensor([prompts[i] for i in rows], device=loaded.model.device)  # (b, length)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Position ids are not supported")  # peft counts them anew, as it should
            loaded.model.generate(
                input_ids=batch, attention_mask=torch.ones_like(batch), generation_config=config, stopping_criteria=[stopped]
            )
    return answers


class JsonEnd:
    """Says when a text that begins with a JSON object has closed it; fed piece by piece, whatever the pieces."""

    def __init__(self) -> None:
        self.depth, self.quoted, self.escaped, self.begun = 0, False, False, False

    def feed(self, piece: str) -> bool:
        for sign in piece:
            if self.escaped:
                self.escaped = False
            elif self.quoted:
                self.escaped, self.quoted = sign == "\\", sign != '"'
            elif sign == '"':
                self.quoted = True
            elif sign in "{[":
                self.depth, self.begun = self.depth + 1, True
            elif sign in "}]":
                self.depth -= 1
                if self.begun and self.depth == 0:
                    return True
        return False


def _generation(tokenizer: Any, prompt_tokens: int, ids: list[int], stop: str, held: int) -> Generation:
    at_end = bool(ids) and ids[-1] == tokenizer.eos_token_id
    text = tokenizer.decode(ids[:-1] if at_end else ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Generation(text, prompt_tokens, len(ids), at_end or (stop == "json" and JsonEnd().feed(text)), held)


def check_room(loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """Raise DataError if a prompt leaves no room for an answer in the model's context, naming its place in `prompts`."""
    room = getattr(loaded.model.config, "max_position_embeddings", None)
    longest = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    if room and len(prompts[longest]) + max_new_tokens > room:
        raise DataError(
            f"prompt {longest + 1} of {len(prompts)} has {len(prompts[longest])} tokens; expected at most {room - max_new_tokens} "
            f"({room} in the model's context less {max_new_tokens} for the answer); shorten the message."
        )


def _prefill(model: Any, prefix: Sequence[int]) -> list[tuple[Any, Any]]:
    """Keys and values of the prefix in each layer, (1, H, P, D): batch of one, whatever the number of rows."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    model(input_ids=torch.tensor([list(prefix)], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return [(layer.keys, layer.values) for layer in cache.layers]


def _new_cache(model: Any, shared: list[tuple[Any, Any]] | None, rows: int, room: int) -> Any:
    """A cache for `rows` rows that starts with the shared prefix and has space for `room` positions in all."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache(config=model.config)
    if all(type(layer) is DynamicLayer for layer in cache.layers):
        cache.layers = [_roomy_layer(room) for _ in cache.layers]
    for layer, (keys, values) in zip(cache.layers, shared or [], strict=False):
        layer.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1))
    return cache


def _roomy_layer(room: int) -> Any:
    """A cache layer that writes into space reserved once; the stock one copies all it holds for every new token."""
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):
        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                shape = (*key_states.shape[:2], room, key_states.shape[3])  # (B, H, room, D)
                self._space, self._filled = (key_states.new_empty(shape), value_states.new_empty(shape)), 0
            start, self._filled = self._filled, self._filled + key_states.shape[2]
            for space, states in zip(self._space, (key_states, value_states), strict=True):
                space[:, :, start : self._filled] = states
            return self._show()

        def _show(self) -> tuple[Any, Any]:
            self.keys, self.values = (space[:, :, : self._filled] for space in self._space)
            return self.keys, self.values

        def batch_select_indices(self, indices: Any) -> None:
            self._space = tuple(space[indices] for space in self._space)
            self._show()

    return RoomyLayer()


def _decode(
    loaded: LoadedModel,
    shared: list[tuple[Any, Any]] | None,
    prefix: int,
    suffixes: list[list[int]],
    max_new_tokens: int,
    ended: Callable[[int, int], bool],
    choose: "Choice | None",
) -> list[list[int]]:
    """Greedy token ids for each suffix by transformers' model, the token that ended a row included."""
    import torch

    model, end, device = loaded.model, loaded.tokenizer.eos_token_id, loaded.model.device
    rows, longest = len(suffixes), max(map(len, suffixes))
    cache = _new_cache(model, shared, rows, prefix + longest + max_new_tokens)
    pads = torch.tensor([longest - len(s) for s in suffixes], device=device)  # left padding of each row, (B,)
    input_ids = torch.tensor([[end] * (longest - len(s)) + s for s in suffixes], device=device)  # (B, L)
    mask = torch.ones(rows, prefix + longest, dtype=torch.long, device=device)
    mask[:, prefix:] = torch.arange(longest, device=device)[None, :] >= pads[:, None]
    position_ids = (mask.cumsum(1) - 1).clamp(min=0)[:, prefix:]
    answers: list[list[int]] = [[] for _ in suffixes]
    alive = list(range(rows))
    for _ in range(max_new_tokens):
        padded = mask if not bool(mask.all()) else None  # without padding the faster unmasked kernel serves
        out = model(
            input_ids=input_ids, attention_mask=padded, position_ids=position_ids, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        logits = out.logits[:, -1]  # (B, vocabulary)
        tokens = torch.tensor(choose(alive, logits.cpu()), device=device) if choose else logits.argmax(-1)
        going = []
        for row, token in zip(alive, tokens.tolist(), strict=True):
            answers[row].append(token)
            going.append(not ended(row, token))
        keep = torch.tensor(going, device=device).nonzero().flatten()
        if len(keep) == 0:
            break
        if len(keep) < len(alive):
            alive = [alive[i] for i in keep.tolist()]
            cache.batch_select_indices(keep)
            tokens, mask, position_ids = tokens[keep], mask[keep], position_ids[keep]
        input_ids, position_ids = tokens[:, None], position_ids[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
    return answers
