"""A first regression check: general prompts that have nothing to do with the task, each decided by a mechanical check.

The base model and the tuned one answer the same prompts without the task's system message; a paired test says what tuning cost. An
answer that is a JSON object fails whatever it holds: the format of the task has carried over.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ftlab.checks import parse_strict
from ftlab.errors import DataError
from ftlab.stats import mcnemar_exact, share
from ftlab.task import DATA, check_frozen


@dataclass(frozen=True)
class GeneralPrompt:
    """One prompt with the check that decides it; see `passes`."""

    id: str
    input: str
    check: dict
    tags: tuple[str, ...] = ()

    @property
    def conversation(self) -> list[dict]:
        return [{"role": "user", "content": self.input}]


def general_prompts() -> list[GeneralPrompt]:
    """The prompts of data/general/prompts.jsonl, a frozen set.

    Raises:
        DataError: it is broken, or not the pinned file.
    """
    path = DATA / "general" / "prompts.jsonl"
    check_frozen(path)
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [GeneralPrompt(r["id"], r["input"], r["check"], tuple(r["tags"])) for r in records]
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise DataError(f"{path.name}: expected rows with id, input, check and tags, found a fault: {error!r}.") from None


def passes(check: dict, answer: str) -> bool:
    """Does `answer` meet every part of `check`?

    Parts: "any" (one of these pieces, case ignored), "any_cased" (the same, case kept), "none" (no such piece), "min_any" ([n, pieces]:
    n of them), "regex" (found, case ignored), "min_words", "max_words", "prose" (not a JSON object). A piece counts where a word begins:
    "ice" is in "iceberg" and not in "nice".
    """
    answer = answer.replace("’", "'")
    low, words = answer.casefold(), len(answer.split())

    def has(piece: str) -> bool:
        start = r"\b" if piece[0].isalnum() else ""
        return re.search(start + re.escape(piece.casefold()), low) is not None

    tests = {
        "any": lambda pieces: any(map(has, pieces)),
        "any_cased": lambda pieces: any(p in answer for p in pieces),
        "none": lambda pieces: not any(map(has, pieces)),
        "min_any": lambda spec: sum(map(has, spec[1])) >= spec[0],
        "regex": lambda pattern: re.search(pattern, answer, re.IGNORECASE) is not None,
        "min_words": lambda n: words >= n,
        "max_words": lambda n: words <= n,
        "prose": lambda wanted: not wanted or not looks_like_json(answer),
    }
    return bool(answer.strip()) and all(tests[name](spec) for name, spec in check.items())


def looks_like_json(answer: str) -> bool:
    try:
        parse_strict(answer)
    except ValueError:
        return answer.lstrip().startswith("{")
    return True


def regression(prompts: Sequence[GeneralPrompt], before: Sequence[str], after: Sequence[str]) -> dict:
    """Pass rates of both models on the same prompts, the paired test, and which prompts were lost.

    Returns:
        {"n", "before", "after" (Wilson shares), "json_answers" {"before", "after"}, "test" (McNemar), "lost": [...], "rows": [...]}.
    """
    rows = [
        {"id": p.id, "input": p.input, "before": b, "after": a, "before_ok": passes(p.check, b), "after_ok": passes(p.check, a)}
        for p, b, a in zip(prompts, before, after, strict=True)
    ]
    hits = {key: [row[f"{key}_ok"] for row in rows] for key in ("before", "after")}
    return {
        "n": len(rows),
        "before": share(hits["before"]).as_dict(),
        "after": share(hits["after"]).as_dict(),
        "json_answers": {key: sum(looks_like_json(row[key]) for row in rows) for key in ("before", "after")},
        "test": mcnemar_exact(hits["before"], hits["after"]),
        "lost": [row["id"] for row in rows if row["before_ok"] and not row["after_ok"]],
        "rows": rows,
    }
