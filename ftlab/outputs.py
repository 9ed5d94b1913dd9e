"""Answers that were generated once are not generated again: a store of outputs in the cache folder, by everything they depend on.

One file holds the answers of one model with one adapter under one set of settings; a line in it is keyed by the hash of its chat. A
model whose weights are not known by hash (one in training, one of an unknown commit) is never stored nor looked up.
"""

import functools
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ftlab import __version__
from ftlab.constrain import CopyRules
from ftlab.generate import Generation, check_room, encode_prompt, generate
from ftlab.models import LoadedModel, cache_dir


def cached_generate(
    loaded: LoadedModel,
    conversations: Sequence[Sequence[dict]],
    *,
    max_new_tokens: int = 160,
    batch_size: int | None = None,
    engine: str = "auto",
    stop: str = "eos",
    copies: CopyRules | None = None,
    cache: bool = True,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Generation], int]:
    """`generate`, with what was generated before taken from the store; equal chats in one call are generated once.

    Each batch is stored when it is finished, so that an interrupt loses one batch only. A store that cannot be written is no error.

    Returns:
        (one answer per chat in their order, how many of them came from the store).

    Raises:
        FtlabError: see `generate`.
    """
    if not conversations:
        return [], 0
    check_room(loaded, [encode_prompt(loaded.tokenizer, conversation) for conversation in conversations], max_new_tokens)
    settings = {"max_new_tokens": max_new_tokens, "engine": engine, "stop": stop, "copies": copies}
    keys = [_key(conversation) for conversation in conversations]
    place = _place(loaded, settings) if cache and loaded.sha256 and loaded.adapter_sha256 is not None else None
    known = _read(place) if place else {}
    found = sum(key in known for key in keys)
    if progress and found:
        progress(found)
    missing = {key: list(c) for key, c in zip(keys, conversations, strict=True) if key not in known}
    todo = list(missing)

    def keep(answers: dict[int, Generation]) -> None:
        fresh = {todo[i]: answer for i, answer in answers.items()}
        known.update(fresh)
        if place:
            _append(place, fresh)

    if todo:
        generate(loaded, list(missing.values()), batch_size=batch_size, progress=progress, keep=keep, **settings)
    return [known[key] for key in keys], found


def _key(conversation: Sequence[dict]) -> str:
    return hashlib.sha256(
        json.dumps(list(conversation), ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")
    ).hexdigest()


def _place(loaded: LoadedModel, settings: dict) -> Path:
    engine = "torch" if settings["engine"] == "auto" else settings["engine"]
    weights, tokens = [loaded.sha256, loaded.adapter_sha256], _tokenizer_identity(loaded.tokenizer)
    copies = settings["copies"] and asdict(settings["copies"])
    depends_on = [__version__, weights, tokens, settings | {"engine": engine, "copies": copies}]
    return cache_dir() / "outputs" / f"{hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:32]}.jsonl"


def _tokenizer_identity(tokenizer: Any) -> list:
    """What decides the tokens of a chat and where an answer ends."""
    backend = getattr(tokenizer, "backend_tokenizer", None)  # the tokenizers library's; older tokenizers have none
    vocabulary = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return [hashlib.sha256(vocabulary.encode()).hexdigest(), tokenizer.chat_template, tokenizer.eos_token_id]


def _read(place: Path) -> dict[str, Generation]:
    known: dict[str, Generation] = {}
    try:
        lines = place.read_text(encoding="utf-8", errors="replace").splitlines() if place.exists() else []
    except OSError as error:
        _warn(place.parent, error.strerror or str(error))
        return known
    for line in lines:
        try:
            record = json.loads(line)
            key = record.pop("key")
            known[key] = Generation(**record)
        except (ValueError, KeyError, TypeError):
            continue  # a line cut by an interrupt: its answer is generated again
    return known


def _append(place: Path, answers: dict[str, Generation]) -> None:
    lines = "".join(json.dumps({"key": key, **asdict(answer)}) + "\n" for key, answer in answers.items())
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place, "a+b") as handle:
            handle.seek(max(0, handle.tell() - 1))  # appending opens at the end
            cut = handle.read() not in (b"", b"\n")  # the line before, by an interrupt
            handle.write(b"\n" * cut + lines.encode())
    except OSError as error:
        _warn(place.parent, error.strerror or str(error))


@functools.cache
def _warn(folder: Path, reason: str) -> None:
    """Say once that answers are not kept."""
    print(
        f"{folder}: expected a folder for finished answers, found one that cannot be used ({reason}); they are not kept for the next run. "
        "Make room or point FTLAB_CACHE to another disk.",
        file=sys.stderr,
    )
