"""The strict score ladder: parse → schema → rule → field → policy. Pure functions on strings, no torch, no files.

Each broken rung gives a problem with a code; each rung has one label from the error taxonomy:

    parse, schema → "format"      rule → "instruction"      field → "knowledge"      policy → "safety"

Nothing is repaired. An output that does not parse or breaks the schema gets "format" and, read off its raw text, "safety"; the
rungs between cannot be judged on it.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import jsonschema_rs

from ftlab.errors import DataError
from ftlab.language import detect_language

RUNGS = ("parse", "schema", "rule", "field", "policy")
LABEL_OF_RUNG = {"parse": "format", "schema": "format", "rule": "instruction", "field": "knowledge", "policy": "safety"}
LABELS = ("format", "instruction", "knowledge", "safety")
CAUSE_ORDER = ("safety", "format", "instruction", "knowledge")  # the first of these that a row has is its first cause

_JSON_SPACE = " \t\n\r"
# subtle: each of these starts only where a run of its characters starts and never backs up (++, *+), so the time stays in proportion
# to the text even for 100,000 dots or letters
_SENTENCE_END = re.compile(r"(?<![.!?…？！])[.!?…？！]++[\"'”’»)\]]*+(?=\s|$)|\n+")
_NO_END = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|no|nr|mr|mrs|ms|dr|st|sr|sra|ud|uds|vs|z\.\s?b|d\.\s?h|bzw|ca|p\.\s?ex|núm|tel|[a-z])|(?<!\d)\d{1,2})\.$"
)
_FACT = re.compile(
    r"(?<![\w.+-])[\w.+-]++@[\w-]+\.[\w.-]*\w"  # an address
    r"|(?<![\w-])(?:(?:[^\W\d]|-)*+\d){3}[\w-]*"  # three digits or more, with what they are joined to
    r"|\b\d++(?:[.,]\d+)+\b|[$€£¥] ?\d+|\b\d+ ?[$€£¥]"  # an amount
)
_NO_WORD = re.compile(r"\W+")
_BLANKS = re.compile(r"[^\S\n]{2,}|[^\S\n ]")  # what stands for one space: two spaces, a tab, a no-break space
_CLAUSE = 400  # characters: what is looked at round one match
_CLOSERS = " \t\r\n\"'”’»)]}`"  # what may follow the last mark of a sentence, in running text or in broken JSON
_DIGIT_OR_AT = re.compile(r"[@\d]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CARD_NUMBER = re.compile(r"(?<!\d)\d(?:[ .\-–]?\d){11,18}(?!\d)")


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one output: on which rung, which code, where in the object, and a sentence."""

    rung: str
    code: str
    path: str
    message: str

    @property
    def label(self) -> str:
        return LABEL_OF_RUNG[self.rung]


@dataclass(frozen=True)
class Check:
    """The verdict on one output: its problems and, if it parsed, its value."""

    problems: tuple[Problem, ...] = ()
    value: Any = field(default=None, compare=False)

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def labels(self) -> list[str]:
        """Every label that applies, in the fixed order of `LABELS`."""
        found = {problem.label for problem in self.problems}
        return [label for label in LABELS if label in found]

    @property
    def first_cause(self) -> str | None:
        """The gravest label by `CAUSE_ORDER`; None for a clean output."""
        found = {problem.label for problem in self.problems}
        return next((label for label in CAUSE_ORDER if label in found), None)

    def passes(self, rung: str) -> bool:
        """True if nothing is wrong on `rung` or on one below it; so shares of passing rows fall along the ladder."""
        reached = RUNGS[: RUNGS.index(rung) + 1]
        return not any(problem.rung in reached for problem in self.problems)

    def has(self, code: str) -> bool:
        return any(problem.code == code for problem in self.problems)


class _NotStrict(ValueError):
    """Python's reader accepts it, the JSON standard does not (duplicate key, NaN)."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict:
    value = dict(pairs)
    if len(value) != len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise _NotStrict(f"duplicate key {key!r}")
    return value


def _no_constant(name: str) -> None:
    raise _NotStrict(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)


def parse_strict(text: str) -> dict:
    """The one JSON object that `text` is.

    Only JSON's own white space may surround it: a code fence, a word, a byte-order mark or a no-break space fail, and so do
    duplicate keys, NaN and Infinity.

    Raises:
        ValueError: saying why `text` is not exactly one JSON object.
    """
    try:
        value, end = _DECODER.raw_decode(text := text.strip(_JSON_SPACE))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if end != len(text):
        raise ValueError(f"text after the object, from character {end}")
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}, not an object")
    return value


@lru_cache(maxsize=8192)
def normalize(text: str) -> str:
    """Unicode NFKC, case folded, runs of white space squeezed to one space: equality "as written"."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@lru_cache(maxsize=4096)
def _words(text: str) -> tuple[str, frozenset[str]]:
    """The words of `text` in small letters: as one string with a space round each, and as a set."""
    spaced = f" {_NO_WORD.sub(' ', text.lower())} "
    return spaced, frozenset(spaced.split())


def _tail(text: str, end: int, n: int) -> str:
    return text[max(0, end - n) : end]


@lru_cache(maxsize=4096)
def split_sentences(text: str) -> tuple[str, ...]:
    """Sentences of `text`: split after . ! ? … or a line break, not after abbreviations, initials or ordinals ("3. März")."""
    ends = [
        m.end()
        for m in _SENTENCE_END.finditer(text)
        if m.end() == len(text) or not _NO_END.search(_tail(text, m.end(), 16).lower())
    ]
    parts = [text[start:end] for start, end in pairwise([0, *ends, len(text)])]
    return tuple(part for part in parts if re.search(r"\w", part))


def values_at(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every (path, value) that a dotted `path` names in a JSON value; `*` stands for every key or item.

    >>> list(values_at({"a": {"x": 1, "y": 2}}, "a.*"))
    [('a.x', 1), ('a.y', 2)]
    """
    step, _, rest = path.partition(".")
    for key, child in _children(value, step):
        if not rest:
            yield key, child
        else:
            for at, leaf in values_at(child, rest):
                yield f"{key}.{at}", leaf


def _children(node: Any, step: str) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return list(node.items()) if step == "*" else [(step, node[step])] if step in node else []
    if isinstance(node, list) and step == "*":
        return [(str(i), item) for i, item in enumerate(node)]
    return []


def _text_at(value: dict, key: str) -> str:
    """The text under a top-level key; "" where the schema lets the key be absent or hold something else: no rule on texts applies."""
    item = value.get(key)
    return item if isinstance(item, str) else ""


@dataclass(frozen=True)
class _Context:
    """What a rule may look at beside the output: the user's text and, if a row says so, its language and its labelled answer."""

    text: str
    lang: str | None = None
    expected: dict | None = None

    def normalized(self) -> str:
        return normalize(self.text)


_Rule = Callable[[dict, _Context], list[Problem]]


def _copied_from_input(spec: dict) -> _Rule:
    """Each string at `path` is a piece of the user's text; `last_digits` names keys that may be the end of a card number."""
    tails = spec.get("last_digits", {})

    def rule(value: dict, context: _Context) -> list[Problem]:
        problems, text = [], context.normalized()
        for path, item in values_at(value, spec["path"]):
            if not isinstance(item, str) or (wanted := normalize(item)) and wanted in text:
                continue
            digits = tails.get(path.rsplit(".", 1)[-1])
            if digits and item in card_tails(text, digits):
                continue
            problems.append(Problem("field", spec["code"], path, f"{item!r} does not stand in the user's text"))
        return problems

    return rule


def card_tails(text: str, digits: int) -> set[str]:
    """The last `digits` digits of each card number in `text`."""
    return {re.sub(r"\D", "", number)[-digits:] for number in _CARD_NUMBER.findall(text)}


def _required_fields(spec: dict) -> _Rule:
    """The list at `path` is exactly what the value at `by` requires and the object at `among` lacks, in the order required."""

    def rule(value: dict, context: _Context) -> list[Problem]:
        present = value.get(spec["among"])
        names = spec["required"].get(_text_at(value, spec["by"]), [])
        expected = [name for name in names if not isinstance(present, dict) or name not in present]
        found = value.get(spec["path"])
        if found == expected:
            return []
        return [Problem("rule", spec["code"], spec["path"], f"expected {expected}, found {found}")]

    return rule


def _question_count(spec: dict) -> _Rule:
    """As many `?` (after NFKC) in the string at `path` as `then` says if the list at `when_nonempty` holds something, or if each key of
    `when` has one of the values given there; else as many as `else` says."""
    nonempty, when = spec.get("when_nonempty"), spec.get("when", {})
    if bool(nonempty) == bool(when):
        raise KeyError("expected one of when_nonempty and when")

    def rule(value: dict, context: _Context) -> list[Problem]:
        expected = spec["then"] if value.get(nonempty) or when and _has_one_of(value, when) else spec["else"]
        found = unicodedata.normalize("NFKC", _text_at(value, spec["path"])).count("?")
        if found == expected or not isinstance(value.get(spec["path"]), str):
            return []
        return [Problem("rule", spec["code"], spec["path"], f"expected {expected} question mark(s), found {found}")]

    return rule


def _has_one_of(value: dict, when: dict[str, list]) -> bool:
    """Whether each key of `when` has one of the values given there."""
    return all(value.get(key) in values for key, values in when.items())


def _required_text(spec: dict) -> _Rule:
    """The string at `path` matches one of `patterns`, in small letters, where each key of `when` has one of the values given there.

    `as_label`: only where the labelled answer matches too; so a labeller says which answers need the text, and an answer without a
    label is not judged.
    """
    search, when, as_label = _any_of(spec["patterns"]), spec.get("when", {}), spec.get("as_label", False)

    def says(value: dict) -> bool:
        return search.search(_text_at(value, spec["path"]).lower()) is not None

    def rule(value: dict, context: _Context) -> list[Problem]:
        asked = _has_one_of(value, when) and (not as_label or context.expected is not None and says(context.expected))
        return [Problem("rule", spec["code"], spec["path"], f"lacks {spec['says']}")] if asked and not says(value) else []

    return rule


def _word_count(spec: dict) -> _Rule:
    """The string at `path` has at most `max` words, parted by white space."""

    def rule(value: dict, context: _Context) -> list[Problem]:
        n = len(_text_at(value, spec["path"]).split())
        if n <= spec["max"]:
            return []
        return [Problem("rule", spec["code"], spec["path"], f"expected at most {spec['max']} words, found {n}")]

    return rule


def _sentence_count(spec: dict) -> _Rule:
    """The string at `path` has between `min` and `max` sentences."""

    def rule(value: dict, context: _Context) -> list[Problem]:
        n = len(split_sentences(_text_at(value, spec["path"])))
        if spec["min"] <= n <= spec["max"] or not isinstance(value.get(spec["path"]), str):
            return []
        return [Problem("rule", spec["code"], spec["path"], f"expected {spec['min']} to {spec['max']} sentences, found {n}")]

    return rule


def _language(spec: dict) -> _Rule:
    """The string at `path` is in the language of the user's text if that is one of `languages`, else in `otherwise`.

    What `ignore` matches (names of menus, say) is left out first. Where either language cannot be told with some certainty,
    nothing is claimed.
    """
    ignore = re.compile(spec.get("ignore", r"(?!)"))

    def rule(value: dict, context: _Context) -> list[Problem]:
        found = detect_language(ignore.sub(" ", _text_at(value, spec["path"])[:_CLAUSE]))
        asked = found and (context.lang or detect_language(context.text, margin=2.0, least=2.0))
        expected = asked if asked in spec["languages"] else spec["otherwise"]
        if not asked or found == expected:
            return []
        return [Problem("rule", spec["code"], spec["path"], f"expected {expected}, found {found}")]

    return rule


def _choice(spec: dict) -> _Rule:
    """The value at `path` is none of `found` where the label has one of `labels` there. Without a label nothing is claimed."""
    refused, labels = {str(value) for value in spec["found"]}, {str(value) for value in spec["labels"]}

    def rule(value: dict, context: _Context) -> list[Problem]:
        if context.expected is None:
            return []
        found, label = value.get(spec["path"]), context.expected.get(spec["path"])
        if str(found) not in refused or str(label) not in labels:
            return []
        return [Problem(spec.get("rung", "rule"), spec["code"], spec["path"], f"{found!r} {spec['says']}")]

    return rule


def _known_values(spec: dict) -> _Rule:
    """Addresses, amounts and numbers of three digits or more in the string at `path` stand in the user's text."""

    def rule(value: dict, context: _Context) -> list[Problem]:
        said = _text_at(value, spec["path"])
        facts = _FACT.findall(normalize(said)) if _DIGIT_OR_AT.search(said) else []
        text = context.normalized() if facts else ""
        return [
            Problem("field", spec["code"], spec["path"], f"{fact!r} does not stand in the user's text")
            for fact in facts
            # subtle: a number may be spaced otherwise; an address may not, and mostly has no digits to compare
            if fact not in text and ("@" in fact or re.sub(r"\D", "", fact) not in re.sub(r"\D", "", text))
        ]

    return rule


def _any_of(patterns: Sequence[str]) -> re.Pattern:
    """One expression for all `patterns`, to be searched in small letters. Those that begin with a word boundary share it, and the
    search only ignores case if a pattern has capitals: together several times faster."""
    inner = [p[2:] for p in patterns if re.match(r"\\b[\w(]", p) and not _splits_at_top(p)]
    others = [p for p in patterns if p[2:] not in inner]
    shared = [r"\b(?=\w)(?:" + "|".join(f"(?:{p})" for p in inner) + ")"] if inner else []
    whole = "|".join(shared + [f"(?:{p})" for p in others])
    letters = re.sub(r"\\.", "", whole)
    return re.compile(whole, 0 if letters == letters.lower() else re.IGNORECASE)


def _splits_at_top(pattern: str) -> bool:
    """True for "\\bone|two": its bar stands in no bracket, so what comes first belongs to the first half only."""
    left = re.sub(r"\\.|\[[^\]]*\]", "", pattern)
    while "(" in left and left != (left := re.sub(r"\([^()]*\)", "", left)):
        pass
    return "|" in left


def _pattern(spec: dict) -> _Rule:
    """No string at `path` matches one of `patterns`.

    `words`: names for alternatives that several patterns share; a pattern uses one as {NAME}.
    `unless_before`: a match does not count if this matches what stands before it in its sentence (a negation, "once …").
    `statements_only`: a match does not count in a clause that ends in a question mark.
    `needs_any`: pieces of which every match holds at least one; they spare the search on most texts. They are looked up in the
    text's small-letter words with one space round each, so " i " is the word and "emos " an ending.
    """
    words = {name: f"(?:{'|'.join(alternatives)})" for name, alternatives in spec.get("words", {}).items()}
    search = _any_of([re.sub(r"\{([A-Z]+)\}", lambda m: words[m[1]], pattern) for pattern in spec["patterns"]])
    unless = _any_of([spec["unless_before"]]) if "unless_before" in spec else None
    may_match = _needs(spec.get("needs_any", [""]))
    statements_only = spec.get("statements_only", False)

    def hit(text: str) -> str | None:
        if not may_match(text):  # most texts are clean: look before searching, search before cutting up
            return None
        text = _BLANKS.sub(" ", text)
        if not search.search(text.lower()):
            return None
        for sentence in map(str.lower, split_sentences(text)):
            asks = statements_only and sentence.rstrip(_CLOSERS).endswith(("?", "？"))
            for match in search.finditer(sentence):
                before, after = _tail(sentence, match.start(), _CLAUSE), sentence[match.end() : match.end() + _CLAUSE]
                # subtle: "Your plan was ended, anything else?" states first and asks later, so the question does not excuse it;
                # in Spanish "¿" says where the question begins
                excused = asks and ("," not in after or "¿" in before)
                if not excused and not (unless and unless.search(before)):
                    return match.group().strip()
        return None

    at_top = not {".", "*"} & set(spec["path"])  # then no need to walk

    def rule(value: dict, context: _Context) -> list[Problem]:
        texts = [(spec["path"], value.get(spec["path"]))] if at_top else values_at(value, spec["path"])
        found = [(path, hit(text)) for path, text in texts if isinstance(text, str)]
        return [Problem(spec["rung"], spec["code"], path, f"{match!r} {spec['says']}") for path, match in found if match]

    rule.hit = hit
    return rule


def _needs(pieces: Sequence[str]) -> Callable[[str], bool]:
    """A quick test whether a text holds any of `pieces`; those that are one whole word are looked up in a set."""
    whole = frozenset(piece.strip() for piece in pieces if re.fullmatch(r" \w+ ", piece))
    parts = [piece for piece in pieces if piece.strip() not in whole]

    def met(text: str) -> bool:
        spaced, words = _words(text)
        if not whole.isdisjoint(words):
            return True
        for piece in parts:  # a plain loop takes half the time of any(), and most texts come this far
            if piece in spaced:
                return True
        return False

    return met


_BUILDERS = {
    "choice": _choice,
    "copied_from_input": _copied_from_input,
    "known_values": _known_values,
    "language": _language,
    "pattern": _pattern,
    "question_count": _question_count,
    "required_fields": _required_fields,
    "required_text": _required_text,
    "sentence_count": _sentence_count,
    "word_count": _word_count,
}
_PARTS = {
    "choice": {"path": str, "code": str, "found": list, "labels": list, "says": str},
    "copied_from_input": {"path": str, "code": str},
    "known_values": {"path": str, "code": str},
    "language": {"path": str, "code": str, "languages": list, "otherwise": str},
    "pattern": {"path": str, "code": str, "rung": str, "patterns": list, "says": str},
    "question_count": {"path": str, "code": str, "then": int, "else": int},
    "required_fields": {"path": str, "code": str, "by": str, "among": str, "required": dict},
    "required_text": {"path": str, "code": str, "patterns": list, "says": str},
    "sentence_count": {"path": str, "code": str, "min": int, "max": int},
    "word_count": {"path": str, "code": str, "max": int},
}
_SEES = {  # what a kind of rule needs beside the answer; the others judge it alone
    "choice": "label", "copied_from_input": "message", "known_values": "message", "language": "message",
}  # fmt: skip


def checklist(schema: dict, rules: Sequence[dict] = (), fields: Sequence[str] = ()) -> list[dict]:
    """What the checker of a task decides, one entry a check, up the ladder: the list to hold a specification against.

    Returns:
        [{"rung", "code", "path", "sees": "answer", "message" or "label": what it takes beside the answer}]. What a specification asks
        for and no entry decides is left to people.
    """
    found = [("parse", "not_json", "", "answer"), ("schema", "schema", ", ".join(schema.get("properties", {})), "answer")]
    for spec in rules:
        rung = spec.get("rung", "field" if spec["rule"] in ("copied_from_input", "known_values") else "rule")
        sees = "label" if spec.get("as_label") else _SEES.get(spec["rule"], "answer")
        found.append((rung, spec["code"], spec["path"], sees))
    found += [("field", f"{path} as labelled", path, "label") for path in fields]
    found.sort(key=lambda check: RUNGS.index(check[0]))
    return [dict(zip(("rung", "code", "path", "sees"), check, strict=True)) for check in dict.fromkeys(found)]


def _no_download(uri: str) -> None:
    """Loading a task folder must not open a connection that its schema asks for."""
    raise ValueError(f"{uri} is not in the file; write the definition under $defs")


class Checker:
    """Checks raw outputs of one task against its schema, its declared rules and, where known, the expected answer.

    Args:
        schema: a JSON Schema, draft 2020-12.
        rules: the `rules` of a task folder's rules.json, in its order; each names its kind under "rule".
        fields: dotted paths compared with the expected answer (`*` for every key), for example ["intent", "entities.*"].

    Raises:
        DataError: the schema is no valid schema, or a rule is of an unknown kind or lacks a part.
    """

    def __init__(self, schema: dict, rules: Sequence[dict] = (), fields: Sequence[str] = ()):
        try:
            self._validator = jsonschema_rs.validator_for(schema, retriever=_no_download)
        except (jsonschema_rs.ValidationError, ValueError) as error:
            raise DataError(f"schema.json: expected a JSON Schema (2020-12), found: {str(error).splitlines()[0]}.") from None
        self.schema, self.fields = schema, tuple(fields)
        self._rules = [self._build(i, spec) for i, spec in enumerate(rules, 1)]
        told = zip(self._rules, rules, strict=True)  # policies that can be seen in an output that is no object
        self._raw = [(rule, spec) for rule, spec in told if spec.get("rung") == "policy" and spec["rule"] == "pattern"]

    @staticmethod
    def _build(number: int, spec: dict) -> _Rule:
        kind = spec.get("rule") if isinstance(spec, dict) else spec
        if not isinstance(kind, str) or kind not in _BUILDERS:
            raise DataError(f"rules.json: rule {number} is {kind!r}; expected one of {', '.join(_BUILDERS)}.")
        # looked at here and not first when an output is checked: a wrong rule is the user's mistake, not the model's
        if wrong := [f"{part!r} ({need.__name__})" for part, need in _PARTS[kind].items() if not isinstance(spec.get(part), need)]:
            raise DataError(f"rules.json: rule {number} ({kind}) lacks {', '.join(wrong)} or has it of another type.")
        if spec.get("rung", "rule") not in RUNGS:
            raise DataError(f"rules.json: rule {number} ({kind}) is on rung {spec['rung']!r}; expected one of {', '.join(RUNGS)}.")
        try:
            return _BUILDERS[kind](spec)
        except (KeyError, TypeError, AttributeError, re.error) as error:
            raise DataError(f"rules.json: rule {number} ({kind}) is malformed: {error}.") from None

    def check(self, output: str, text: str, *, lang: str | None = None, expected: dict | None = None) -> Check:
        """Everything that is wrong with one raw `output` given the user's `text`.

        Args:
            output: the generated text, as it came.
            text: what the user wrote (their turns of a chat, joined by line breaks).
            lang: the message's language if a labeller has said it; else it is detected, or left open.
            expected: the labelled answer; without it the field rung only sees what the text alone decides.

        Returns:
            a Check; never raises for any string.
        """
        try:
            value = parse_strict(output)
        except ValueError as error:
            return Check((Problem("parse", "not_json", "", f"not exactly one JSON object: {error}"), *self._unsafe(output)))
        problems = self.schema_problems(value)
        if problems:
            return Check((*problems, *self._unsafe(output)), value)
        context = _Context(text, lang, expected)
        found = [problem for rule in self._rules for problem in rule(value, context)]
        if expected is not None:
            found += compare(value, expected, self.fields)
        found.sort(key=lambda problem: RUNGS.index(problem.rung))
        return Check(tuple(found), value)

    def schema_problems(self, value: Any) -> list[Problem]:
        """Where `value` breaks the schema; a value that the validator cannot even read (a lone surrogate) breaks it too."""
        try:
            if self._validator.is_valid(value):
                return []
            errors = [(".".join(map(str, error.instance_path)), error.message) for error in self._validator.iter_errors(value)]
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            errors = [("", f"cannot be read: {type(error).__name__}")]
        return [Problem("schema", "schema", path, message) for path, message in errors]

    def _unsafe(self, raw: str) -> list[Problem]:
        text = _unescaped(raw)
        hits = [(spec, rule.hit(text)) for rule, spec in self._raw]
        return [Problem("policy", spec["code"], "", f"{match!r} {spec['says']}") for spec, match in hits if match]


def _unescaped(raw: str) -> str:
    """`raw` with JSON's escapes resolved, as far as they are any: "J\\u2019ai annulé" says what "J’ai annulé" says."""
    signs = {"n": "\n", "r": "\n", "t": " ", "b": " ", "f": " "}
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else signs.get(m[2], m[2]), raw) if "\\" in raw else raw


def compare(value: dict, expected: dict, fields: Sequence[str]) -> list[Problem]:
    """Where `value` differs from the `expected` answer on the dotted `fields`; strings are equal "as written" (`normalize`)."""
    problems = []
    for path in fields:
        found, wanted = dict(values_at(value, path)), dict(values_at(expected, path))
        for at in dict.fromkeys([*wanted, *found]):
            if at not in found:
                problems.append(Problem("field", "missed_value", at, f"expected {wanted[at]!r}, found nothing"))
            elif at not in wanted:
                problems.append(Problem("field", "extra_value", at, f"expected nothing, found {found[at]!r}"))
            elif not _equal(found[at], wanted[at]):
                problems.append(Problem("field", "wrong_value", at, f"expected {wanted[at]!r}, found {found[at]!r}"))
    return problems


def _equal(a: Any, b: Any) -> bool:
    return normalize(a) == normalize(b) if isinstance(a, str) and isinstance(b, str) else a == b
