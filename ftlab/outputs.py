"""Answers that were generated once are not generated again: a store of outputs in the cache folder, by everything they depend on.

One file holds the answers of one model with one adapter under one set of settings; a line in it is keyed by the hash of its chat. A
model whose weights are not known by hash (one in training) is never stored nor looked up.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from ftlab.generate import Generation, generate
from ftlab.models import LoadedModel, cache_dir

CHUNK = 256  # rows generated between two writes: what an interrupt can lose


def cached_generate(
    loaded: LoadedModel,
    conversations: Sequence[Sequence[dict]],
    *,
    max_new_tokens: int = 160,
    batch_size: int = 16,
    engine: str = "auto",
    stop: str = "eos",
    cache: bool = True,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Generation], int]:
    """`generate`, with what was generated before taken from the store; equal chats in one call are generated once.

    Returns:
        (one answer per chat in their order, how many of them came from the store).

    Raises:
        FtlabError: see `generate`.
    """
    settings = {"max_new_tokens": max_new_tokens, "engine": engine, "stop": stop}
    keys = [_key(conversation) for conversation in conversations]
    place = _place(loaded, settings) if cache and loaded.adapter_sha256 is not None else None
    known = _read(place) if place else {}
    found = sum(key in known for key in keys)
    if progress and found:
        progress(found)
    missing = {key: list(c) for key, c in zip(keys, conversations, strict=True) if key not in known}
    todo = list(missing)
    for start in range(0, len(todo), CHUNK):
        part = todo[start : start + CHUNK]
        answers = generate(loaded, [missing[key] for key in part], batch_size=batch_size, progress=progress, **settings)
        fresh = dict(zip(part, answers, strict=True))
        known |= fresh
        if place:
            _append(place, fresh)
    return [known[key] for key in keys], found


def _key(conversation: Sequence[dict]) -> str:
    return hashlib.sha256(
        json.dumps(list(conversation), ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")
    ).hexdigest()


def _place(loaded: LoadedModel, settings: dict) -> Path:
    engine = "torch" if settings["engine"] == "auto" else settings["engine"]
    depends_on = [loaded.sha256, loaded.adapter_sha256, loaded.tokenizer.chat_template, settings | {"engine": engine}]
    return cache_dir() / "outputs" / f"{hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:32]}.jsonl"


def _read(place: Path) -> dict[str, Generation]:
    known = {}
    lines = place.read_text(encoding="utf-8").splitlines() if place.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
            key = record.pop("key")
            known[key] = Generation(**record)
        except (ValueError, KeyError, TypeError):
            continue  # a line cut by an interrupt: its answer is generated again
    return known


def _append(place: Path, answers: dict[str, Generation]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place, "a", encoding="utf-8") as handle:
        handle.writelines(json.dumps({"key": key, **asdict(answer)}) + "\n" for key, answer in answers.items())
