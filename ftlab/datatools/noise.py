"""`ftlab data noise`: the same rows as hurried people would have typed them, with every labelled value as it was.

Words that hold a labelled value, a digit, an @ or a negation are never touched, and each changed row is checked again by the task's
checker; a row that fails stays as it was and is counted.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from ftlab.checks import normalize, split_sentences
from ftlab.datatools.lines import records
from ftlab.datatools.sets import Sets, copied_values
from ftlab.errors import UsageError
from ftlab.rows import Row
from ftlab.task import Task

_LAYOUTS = {  # rows of letters; a row begins half a key to the right of the one above
    "en": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "de": ("qwertzuiopü", "asdfghjklöä", "yxcvbnm"),
    "fr": ("azertyuiop", "qsdfghjklm", "wxcvbn"),
}
_NEAR = 1.2  # keys: a neighbour's middle is at most this far away
_NEGATIONS = frozenset(
    """not no never none nothing nobody without cannot neither nor dont don't cant can't wont won't didnt didn't doesnt doesn't isnt isn't
    nicht kein keine keinen keiner keinem nie nichts niemand ohne weder pas ne non jamais rien aucun aucune sans ni nunca nada nadie sin
    ningún ninguna tampoco""".split()
)
_SMALL_WORDS = {  # their loss does not change what is asked for; "to" is none of them, since it tells a new address from an old one
    "en": "the a an is are was am have has been so just really very please of".split(),
    "de": "der die das den dem ein eine einen ist sind war habe hab so doch mal bitte sehr".split(),
    "fr": "le la les un une des est sont ai très bien donc svp".split(),
    "es": "el la los las un una es son he muy pues".split(),
}
_OPENERS = {  # what a fragment leaves out
    "en": r"(?:i|we) (?:want|need|would like|'d like) to |i am |i'm |i have |i've |can you |could you |please |it is |it's |there is ",
    "de": r"ich (?:möchte|will|würde gerne) |ich bin |ich habe |können sie |kannst du |bitte |es ist |das ist ",
    "fr": r"je (?:veux|voudrais|souhaite) |je suis |j'ai |pouvez-vous |peux-tu |c'est |il y a ",
    "es": r"(?:quiero|quisiera|necesito) |estoy |tengo |he |puede |puedes |por favor |es que |hay ",
}
_GREETINGS = {
    "en": (r"hi|hello|hey|good (?:morning|afternoon|evening)", ("hello", "hi")),
    "de": (r"hallo|guten (?:tag|morgen|abend)|moin", ("hallo", "guten Tag")),
    "fr": (r"bonjour|bonsoir|salut", ("bonjour", "salut")),
    "es": (r"hola|buenas(?: tardes| noches)?|buenos días", ("hola", "buenas")),
}
_CORE = re.compile(r"\w.*\w|\w")  # a word without the signs at its ends

_Change = Callable[[str, "Guard", str, random.Random], str]


class Guard:
    """Which words of a text may be touched: those that hold no value."""

    def __init__(self, values: Sequence[str]):
        self._pieces = [r"\s+".join(map(re.escape, value.split())) for value in values if value.split()]

    def free(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of each word that may be touched, without the signs at its ends."""
        held = [m.span() for piece in self._pieces for m in re.finditer(piece, text, re.IGNORECASE)]
        cores = [(m.start(), _CORE.search(m[0])) for m in re.finditer(r"\S+", text)]
        spans = [(at + core.start(), at + core.end()) for at, core in cores if core]
        return [(a, b) for a, b in spans if not any(a < end and start < b for start, end in held) and not _fixed(text[a:b])]


def _fixed(word: str) -> bool:
    return bool(re.search(r"[\d@/]", word)) or word.casefold().replace("’", "'") in _NEGATIONS


def neighbours(letter: str, layout: str = "en") -> str:
    """The letters whose keys touch that of `letter`, in the order of the keyboard; "" for what is no letter of it.

    >>> neighbours("g")
    'tyfhvb'
    """
    rows = _LAYOUTS.get(layout, _LAYOUTS["en"])
    places = {key: (x + y / 2, y) for y, row in enumerate(rows) for x, key in enumerate(row)}
    if letter not in places:
        return ""
    x0, y0 = places[letter]
    return "".join(key for key, (x, y) in places.items() if key != letter and (x - x0) ** 2 + (y - y0) ** 2 <= _NEAR**2)


def _typos(text: str, guard: Guard, lang: str, draw: random.Random) -> str:
    """One slip in about every eighth word of four letters or more: a neighbouring key, a lost, doubled or swapped letter."""
    long = [span for span in guard.free(text) if span[1] - span[0] >= 4]
    for start, end in sorted(draw.sample(long, min(len(long), max(1, len(long) // 8))), reverse=True):
        text = text[:start] + _slip(text[start:end], lang, draw) + text[end:]
    return text


def _slip(word: str, lang: str, draw: random.Random) -> str:
    i = draw.randrange(1, len(word) - 1)  # first and last letters are mostly right
    kind = draw.choice(("near", "lost", "doubled", "swapped"))
    if kind == "near" and (keys := neighbours(word[i].lower(), lang)):
        return word[:i] + draw.choice(keys) + word[i + 1 :]
    if kind == "lost":
        return word[:i] + word[i + 1 :]
    if kind == "swapped" and word[i] != word[i + 1]:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    return word[:i] + word[i] + word[i:]


def careless(text: str, rate: float, seed: str, layout: str = "en") -> str:
    """Every letter of `text` with probability `rate` replaced by a neighbouring key, wherever it stands: what a label may not survive."""
    draw, letters = random.Random(seed), []
    for letter in text:
        keys = neighbours(letter.lower(), layout)
        letters.append(draw.choice(keys) if keys and draw.random() < rate else letter)
    return "".join(letters)


def _dropped_words(text: str, guard: Guard, lang: str, draw: random.Random) -> str:
    """One or two small words less."""
    small = [(a, b) for a, b in guard.free(text) if text[a:b].lower() in _SMALL_WORDS[lang]]
    for start, end in sorted(draw.sample(small, min(len(small), draw.choice((1, 2)))), reverse=True):
        text = text[:start] + text[end:].removeprefix(" ")
    return text


def _casing(text: str, guard: Guard, lang: str, draw: random.Random) -> str:
    """No capitals, or nothing but capitals."""
    change = draw.choice((str.lower, str.lower, str.upper))
    for start, end in guard.free(text):
        if len(changed := change(text[start:end])) == end - start:  # subtle: "ß" has two capital letters and would move the rest
            text = text[:start] + changed + text[end:]
    return text


def _punctuation(text: str, guard: Guard, lang: str, draw: random.Random) -> str:
    """No commas and points after words that may be touched; question marks go too, as on a telephone."""
    for _, end in reversed(guard.free(text)):
        if re.match(r"[.,;:!?]+(?=\s|$)", text[end:]):
            text = text[:end] + text[end:].lstrip(".,;:!?")
    return text


def _code_switch(text: str, guard: Guard, lang: str, draw: random.Random) -> str:
    """The greeting in another language; a message without one gets one."""
    other = draw.choice([name for name in _GREETINGS if name != lang])
    greeting = draw.choice(_GREETINGS[other][1])
    if match := re.match(rf"\s*(?:{_GREETINGS[lang][0]})\b", text, re.IGNORECASE):
        return greeting.capitalize() + text[match.end() :]
    return f"{greeting}, {text}"


def _fragment(text: str, guard: Guard, lang: str, draw: random.Random) -> str:
    """Sentences without their openers, a line each. Subtle: "I'm" before a value stays, since it says whose the value is."""
    parts = []
    for part in map(str.strip, split_sentences(text)):
        opener = re.match(_OPENERS[lang], part, re.IGNORECASE)
        if opener and any(start == opener.end() for start, _ in guard.free(part)):
            part = part[opener.end() :]
        parts.append(part)
    return "\n".join(parts) or text


KINDS: dict[str, _Change] = {
    "typo": _typos,
    "dropped_word": _dropped_words,
    "casing": _casing,
    "punctuation": _punctuation,
    "code_switch": _code_switch,
    "fragment": _fragment,
}


def noisy_row(task: Task, row: Row, record: dict, kinds: Sequence[str], draw: random.Random) -> tuple[dict, list[str], str]:
    """One record with noise in its user messages.

    Returns:
        the record, the kinds that changed something, and why the row was left as it was ("" if it was not): "nothing to change"
        or "a value or rule would break".
    """
    # every text of the answer that stands in the message is held, not only the compared ones
    values = [value for _, value in copied_values(row, _all_paths(row.output))]
    lang, guard, done = row.lang if row.lang in _GREETINGS else "en", Guard(values), []
    texts = [m["content"] for m in row.messages if m["role"] == "user"]
    for kind in kinds:
        # only the first message of a chat has a greeting
        last = 1 if kind == "code_switch" else len(texts)
        changed = [KINDS[kind](text, guard, lang, draw) if i < last else text for i, text in enumerate(texts)]
        if changed != texts:
            texts, done = changed, [*done, kind]
    if not done:
        return record, [], "nothing to change"
    text = "\n".join(texts)
    kept = all(normalize(value) in normalize(text) for value in values) and all(part.strip() for part in texts)
    if not kept or task.checker.check(json.dumps(row.output), text, lang=row.lang).problems:
        return record, [], "a value or rule would break"
    tags = [*record.get("tags", []), *(f"noise_{kind}" for kind in done)]
    return record | {"input": _put(row, texts), "tags": tags}, done, ""


def _all_paths(value: dict | list, at: str = "") -> list[str]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    paths = []
    for key, item in items:
        paths += _all_paths(item, f"{at}{key}.") if isinstance(item, dict | list) else [f"{at}{key}"]
    return paths


def _put(row: Row, texts: Sequence[str]) -> str | list[dict]:
    if isinstance(row.input, str):
        return texts[0]
    left = iter(texts)
    return [m | {"content": next(left)} if m["role"] == "user" else m for m in row.input]


def add_noise(sets: Sets, stem: str, rate: float, kinds: Sequence[str] = tuple(KINDS), seed: int = 0) -> tuple[list[dict], dict]:
    """Every row of STEM.jsonl, each with each kind of noise with probability `rate`; ids stay, so that scores can be paired.

    A row's noise depends on the seed and its id only, not on the other rows.

    Returns:
        the records, and counts: "rows", "changed", "kinds" (rows by kind), "as_they_were" (rows by reason).

    Raises:
        UsageError: the rate is out of range, a kind is unknown, or the rows have no labels to hold values intact by.
        DataError: rows of the folder are broken.
    """
    if not 0 < rate <= 1:
        raise UsageError(f"--rate: expected a number above 0 and at most 1, found {rate}.")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"--kinds: expected some of {', '.join(KINDS)}, found {unknown[0]!r}.")
    own = records(sets, stem)
    if sets.task is None or any(row.output is None for row in sets.files[stem]):
        raise UsageError(f"--file {stem}: expected labelled rows of a task, whose values can be held intact; found rows without.")
    return noisy_rows(sets.task, sets.files[stem], own, rate, kinds, seed)


def noisy_rows(
    task: Task, rows: Sequence[Row], records: Sequence[dict], rate: float, kinds: Sequence[str] = tuple(KINDS), seed: int = 0
) -> tuple[list[dict], dict]:
    """Labelled rows and what stands of them in a file → the records with noise, and counts; see `add_noise`."""
    out, by_kind, left = [], Counter({kind: 0 for kind in kinds}), Counter()
    for row, record in zip(rows, records, strict=True):
        draw = random.Random(f"{seed}/{row.id}")
        hit = [kind for kind in kinds if draw.random() < rate]
        noisy, done, why = noisy_row(task, row, record, hit, draw) if hit else (record, [], "not drawn")
        out.append(noisy)
        by_kind.update(done)
        left.update([why] if why else [])
    return out, {"rows": len(rows), "changed": len(rows) - left.total(), "kinds": dict(by_kind), "as_they_were": dict(left)}


def as_typed(
    task: Task, rows: Sequence[Row], rate: float, kinds: Sequence[str] = tuple(KINDS), seed: int = 0
) -> tuple[list[Row], dict]:
    """Labelled rows as hurried people would have typed them, their labels and ids as they were, and counts; see `add_noise`."""
    records, counts = noisy_rows(task, rows, [{"input": row.input} for row in rows], rate, kinds, seed)
    return [replace(row, input=record["input"]) for row, record in zip(rows, records, strict=True)], counts
