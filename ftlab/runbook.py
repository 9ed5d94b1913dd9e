"""The runbook language: a notation for operations that was invented here, so that no model has seen it. docs/runbook.md is its manual.

    ::spool-7 !! @tide {queue^900} a=hold(intake)~3>b/@moss b=flush(spool)~8>c c=free(intake)~1>* ::

A runbook is one line without quotes, backslashes or brackets of JSON's kind in odd places, so that it stands inside a JSON string as it
stands in a text. There is one spelling for each runbook: `parse(text).text == text` for every text that `parse` takes.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from ftlab.errors import UsageError

THINGS = ("intake", "spool", "cache", "relay", "vault", "mirror", "ledger", "lamp", "gate", "kiln", "pump", "index")
TEAMS = ("tide", "moss", "flint", "heron", "cedar", "ember")
METRICS = ("queue", "errors", "lag", "heat", "load", "drift", "wear")
VERBS = ("hold", "free", "flush", "swap", "seal", "probe", "wake", "trim")
SIGNS = {"^": "above", "_": "below"}
LIMITS = (5, 20, 40, 60, 75, 90, 120, 300, 500, 900)
MINUTES = (1, 2, 3, 4, 5, 8, 10, 15, 20, 30)
LETTERS = "abcdefgh"  # steps of a runbook at most
DONE = "*"  # the place where a runbook ends well
TASK_STEPS = 2  # steps at most of a runbook in a row to tune on: a tiny model cannot write longer ones

_WORD, _NUMBER = r"[a-z]+", r"[1-9]\d{0,3}"
_PLACE = rf"\*|@{_WORD}|[{LETTERS}]"
_HEAD = re.compile(rf"::(?P<thing>{_WORD})-(?P<number>{_NUMBER}) (?P<marks>!{{1,3}}) @(?P<owner>{_WORD}) "
                   rf"\{{(?P<metric>{_WORD})(?P<sign>[\^_])(?P<limit>{_NUMBER})\}} ")  # fmt: skip
_STEP = re.compile(rf"(?P<letter>[{LETTERS}])=(?P<verb>{_WORD})\((?P<target>{_WORD})\)~(?P<minutes>{_NUMBER})"
                   rf">(?P<then>{_PLACE})(?:/(?P<otherwise>{_PLACE}))? ")  # fmt: skip
_END = "::"


@dataclass(frozen=True)
class Step:
    """What is done to what, for how long, and where to go from there.

    Attributes:
        then: the place to go to if it worked: a letter, `DONE`, or "@team", who then take over.
        otherwise: the place to go to if it did not; None: the owner is called.
    """

    verb: str
    target: str
    minutes: int
    then: str
    otherwise: str | None = None


@dataclass(frozen=True)
class Runbook:
    """A runbook as it was written; `faults` says whether it can be followed."""

    thing: str
    number: int
    urgency: int
    owner: str
    metric: str
    sign: str
    limit: int
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        return f"{self.thing}-{self.number}"

    @property
    def text(self) -> str:
        """The one spelling of this runbook."""
        head = f"::{self.name} {'!' * self.urgency} @{self.owner} {{{self.metric}{self.sign}{self.limit}}} "
        return head + "".join(f"{_step_text(letter, step)} " for letter, step in zip(LETTERS, self.steps, strict=False)) + _END

    def step(self, place: str) -> Step | None:
        """The step at a place, if one is there."""
        at = LETTERS.find(place)
        return self.steps[at] if 0 <= at < len(self.steps) else None

    def straight(self) -> list[str]:
        """The letters of the way on which every step works, to its end. It must be free of loops."""
        way, place = [], LETTERS[0]
        while (step := self.step(place)) is not None:
            way.append(place)
            place = step.then
        return way


def _step_text(letter: str, step: Step) -> str:
    otherwise = f"/{step.otherwise}" if step.otherwise else ""
    return f"{letter}={step.verb}({step.target})~{step.minutes}>{step.then}{otherwise}"


def parse(text: str) -> Runbook:
    """The runbook that `text` is, by the grammar alone.

    Raises:
        ValueError: it is none; says what was expected at which character.
    """
    head = _HEAD.match(text)
    if head is None:
        raise ValueError(f"expected a head such as ::spool-7 !! @tide {{queue^900}}, found {text[:40]!r}")
    steps, at = [], head.end()
    while (found := _STEP.match(text, at)) is not None:
        if found["letter"] != LETTERS[len(steps) : len(steps) + 1]:
            raise ValueError(
                f"expected step {LETTERS[len(steps) : len(steps) + 1] or 'none'} at character {at}, found {found['letter']}"
            )
        steps.append(Step(found["verb"], found["target"], int(found["minutes"]), found["then"], found["otherwise"]))
        at = found.end()
    if not steps or text[at:] != _END:
        raise ValueError(
            f"expected {'a step' if not steps else 'a step or the end ::'} at character {at}, found {text[at : at + 20]!r}"
        )
    thing, metric = head["thing"], head["metric"]
    return Runbook(
        thing, int(head["number"]), len(head["marks"]), head["owner"], metric, head["sign"], int(head["limit"]), tuple(steps)
    )


def faults(book: Runbook) -> list[str]:
    """Why a runbook cannot be followed, a sentence a fault; empty for a valid one.

    1. Words are those of the language.  2. Every way leads to a later step, to a team or to the end, so that it ends.  3. Each step but the
    first is reached.  4. The owner is never called by name, and both ways of a step differ.  5. On the straight way whatever is held is
    freed later, and nothing is freed that is not held.
    """
    found = _strange_words(book)
    ways = [(i, place) for i, s in enumerate(book.steps) for place in (s.then, s.otherwise) if place is not None]
    for i, place in ways:
        if place in LETTERS and not i < LETTERS.index(place) < len(book.steps):
            found.append(f"step {LETTERS[i]} leads to {place}, which is no later step")
        if place == f"@{book.owner}":
            found.append(f"step {LETTERS[i]} calls the owner by name")
    reached = {place for _, place in ways}
    found += [f"step {letter} is never reached" for letter in LETTERS[1 : len(book.steps)] if letter not in reached]
    found += [f"step {LETTERS[i]} goes the same way twice" for i, s in enumerate(book.steps) if s.then == s.otherwise]
    return found + ([] if found else _holding(book))  # subtle: with a loop there is no straight way to follow


def _strange_words(book: Runbook) -> list[str]:
    places = [p.removeprefix("@") for s in book.steps for p in (s.then, s.otherwise) if p and p.startswith("@")]
    said = (
        ("thing", THINGS, [book.thing, *(s.target for s in book.steps)]), ("team", TEAMS, [book.owner, *places]),
        ("metric", METRICS, [book.metric]), ("verb", VERBS, [s.verb for s in book.steps]),
    )  # fmt: skip
    return [f"{word} is no {kind}" for kind, known, words in said for word in words if word not in known]


def _holding(book: Runbook) -> list[str]:
    held: list[str] = []
    found = []
    for letter in book.straight():
        step = book.step(letter)
        if step.verb == "hold":
            held.append(step.target)
        elif step.verb == "free" and step.target in held:
            held.remove(step.target)
        elif step.verb == "free":
            found.append(f"step {letter} frees {step.target}, which is not held")
    return found + [f"{target} is held and not freed on the straight way" for target in held]


def facts(book: Runbook) -> dict:
    """What a valid runbook says, as a reader of it would answer.

    Returns:
        {"owner", "urgency" (1 to 3), "trigger" (in words), "steps", "minutes" (of the straight way), "longest" (minutes of the longest
        way), "calls" (teams that may be called, sorted)}.
    """
    longest: dict[str, int] = {}
    for letter, step in reversed(list(zip(LETTERS, book.steps, strict=False))):
        longest[letter] = step.minutes + max(longest.get(place, 0) for place in (step.then, step.otherwise))
    calls = {place[1:] for s in book.steps for place in (s.then, s.otherwise) if place and place.startswith("@")}
    if any(step.otherwise is None for step in book.steps):
        calls.add(book.owner)
    return {
        "owner": book.owner, "urgency": book.urgency, "trigger": f"{book.metric} {SIGNS[book.sign]} {book.limit}",
        "steps": len(book.steps), "minutes": sum(book.step(letter).minutes for letter in book.straight()),
        "longest": longest[LETTERS[0]], "calls": sorted(calls),
    }  # fmt: skip


@dataclass(frozen=True)
class Check:
    """The verdict on a text: the runbook, if it is one by the grammar, and what is wrong with it."""

    book: Runbook | None
    faults: tuple[str, ...]

    @property
    def valid(self) -> bool:
        return not self.faults


def check(text: str) -> Check:
    """Whether a text is a valid runbook, by grammar and rules."""
    try:
        book = parse(text)
    except ValueError as error:
        return Check(None, (str(error),))
    return Check(book, tuple(faults(book)))


def draw(rng: Random, most_steps: int = 5) -> Runbook:
    """A valid runbook, drawn at random.

    Half of them hold something first and free it last; some have a last step that only a failure leads to.
    """
    n = rng.randint(2, most_steps)
    rescue = n >= 3 and rng.random() < 0.3
    straight = n - rescue
    owner = rng.choice(TEAMS)
    work = [_work(rng) for _ in range(n)]
    if straight >= 2 and rng.random() < 0.5:
        target = rng.choice(THINGS)
        work[0], work[straight - 1] = ("hold", target), ("free", target)
    rescued = rng.randrange(straight) if rescue else None
    steps = []
    for i, (verb, target) in enumerate(work):
        then = LETTERS[i + 1] if i + 1 < straight else DONE
        otherwise = LETTERS[n - 1] if i == rescued else _otherwise(rng, owner)
        steps.append(Step(verb, target, rng.choice(MINUTES), then, otherwise))
    head = (
        rng.choice(THINGS),
        rng.randint(1, 9),
        rng.randint(1, 3),
        owner,
        rng.choice(METRICS),
        rng.choice("^_"),
        rng.choice(LIMITS),
    )
    return Runbook(*head, tuple(steps))


def _work(rng: Random) -> tuple[str, str]:
    return rng.choice([verb for verb in VERBS if verb not in ("hold", "free")]), rng.choice(THINGS)


def _otherwise(rng: Random, owner: str) -> str | None:
    return None if rng.random() < 0.5 else f"@{rng.choice([team for team in TEAMS if team != owner])}"


def documents(n: int, seed: int = 0, *, without: Collection[str] = (), most_steps: int = 5) -> Iterator[str]:
    """The texts of n different runbooks, the first the same however many are wanted, none of which is in `without`.

    Raises:
        UsageError: a number out of range.
    """
    if n < 0 or not 2 <= most_steps <= len(LETTERS):
        raise UsageError(f"runbook: expected 0 documents or more of 2 to {len(LETTERS)} steps, found {n} of {most_steps}.")
    rng, seen = Random(f"runbooks-{seed}"), set(without)
    while n:
        text = draw(rng, most_steps).text
        if text not in seen:
            seen.add(text)
            n -= 1
            yield text


def spoken(book: Runbook, wording: int = 0) -> str:
    """A runbook as somebody asks for it in English: nothing is left out, so that there is one right answer.

    Args:
        wording: which of the wordings; any number.
    """
    head, link, wrong = _WORDINGS[wording % len(_WORDINGS)]
    says = head.format(
        name=book.name, urgency=("low", "medium", "high")[book.urgency - 1], owner=book.owner, metric=book.metric,
        side=SIGNS[book.sign], limit=book.limit,
    )  # fmt: skip
    return says + "".join(link.format(letter=x, does=_does(s, wrong)) for x, s in zip(LETTERS, book.steps, strict=False))


def _does(step: Step, wrong: str) -> str:
    after = {DONE: "then done"}.get(step.then, f"then {_place_words(step.then)}")
    failed = f", {wrong.format(place=_place_words(step.otherwise))}" if step.otherwise else ""
    return f"{step.verb} {step.target}, {step.minutes} min, {after}{failed}"


def _place_words(place: str) -> str:
    return {DONE: "done"}.get(place) or (f"call {place[1:]}" if place.startswith("@") else f"go to {place}")


_WORDINGS: Sequence[tuple[str, str, str]] = (
    ("{name}, urgency {urgency}, owner {owner}, when {metric} is {side} {limit}.", " {letter}: {does}.", "on failure {place}"),
    ("When {metric} is {side} {limit}, {owner} follows {name} ({urgency}).", " Step {letter}: {does}.", "if it fails {place}"),
    ("{owner} needs {name} for {metric} {side} {limit}, {urgency} urgency.", " {letter}) {does}.", "else {place}"),
)
