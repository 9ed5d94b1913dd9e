"""Exercises and quiz of notebook 04."""

import json
from typing import Any

from ftlab.checks import Checker
from ftlab.course import workshop
from ftlab.course.exercise import Exercise, OpenTask, Question
from ftlab.stats import cohen_kappa, mcnemar_power

_DECIDERS = {
    "one_object": ("answer", "a parser needs nothing but the answer"),
    "copied": ("message", "whether a value was copied shows only beside the message; no label is needed for it"),
    "right_intent": ("label", "what the customer wants has to be said by a person once, and then a program can compare"),
    "missing_info": ("answer", "it follows from intent and entities, both of which stand in the answer: a program recomputes it"),
    "one_question": ("answer", "question marks can be counted in the answer"),
    "kind": ("people", "no rule of this task looks at tone, and the unkind answer above passed them all"),
}


def _who_decides(found: Any) -> str:
    if not isinstance(found, dict) or set(found) != set(_DECIDERS):
        return f"expected a dict with the keys {', '.join(_DECIDERS)}"
    if not any(found.values()):
        return "not started"
    for name, (right, why) in _DECIDERS.items():
        if found[name] != right:
            return f"{name}: {why}" if found[name] else f"{name} is not filled in"
    return ""


_CAFE_GOOD = (
    {"drink": "coffee", "cups": 2},
    {"drink": "tea", "cups": 12, "note": "no milk"},
    {"drink": "cocoa", "cups": 1},
)
_CAFE_BAD = (
    ({"drink": "coffee"}, "an order without cups is let through: list in required what must be there"),
    ({"cups": 2}, "an order without a drink is let through: list in required what must be there"),
    ({"drink": "beer", "cups": 1}, "a beer is let through: a closed set is an enum"),
    ({"drink": "tea", "cups": 0}, "no cup at all is let through: see minimum"),
    ({"drink": "tea", "cups": 13}, "thirteen cups are let through: see maximum"),
    ({"drink": "tea", "cups": 1.5}, "one and a half cups are let through: the type of whole numbers is integer"),
    ({"drink": "tea", "cups": "2"}, "cups as a text are let through: give the type"),
    ({"drink": "tea", "cups": 1, "note": ""}, "an empty note is let through: see minLength"),
    ({"drink": "tea", "cups": 1, "note": 5}, "a number as the note is let through: give the type"),
    ({"drink": "tea", "cups": 1, "sugar": 2}, "a key that nobody agreed on is let through: see additionalProperties"),
)


def _cafe_schema(schema: Any) -> str:
    if not isinstance(schema, dict):
        return f"expected the schema as a dict, found a {type(schema).__name__}"
    checker = Checker(schema)
    for order in _CAFE_GOOD:
        if problems := checker.schema_problems(order):
            return f"{json.dumps(order)} should be fine and is refused: {problems[0].message}"
    return next((why for order, why in _CAFE_BAD if not checker.schema_problems(order)), "")


_CLAIMS = ("We have booked you in.", "I've booked the stand for you.", "Your place is reserved.", "You are booked for Friday.")
_HARMLESS = ("Please bring it in before noon.", "Please book the stand at the counter.", "Please reserve an hour.")


def _workshop_rules(rules: Any) -> str:
    if not isinstance(rules, list):
        return f"expected a list of rules, found a {type(rules).__name__}"
    checker = Checker(workshop.SCHEMA, rules)

    def check(reply: str, day: str = "Friday") -> Any:
        return checker.check(json.dumps({"job": "tyre", "day": day, "reply": reply}), "flat tyre, Friday?")

    if check("Please bring it in.", day="Monday").ok:
        return "a Monday passes where the message says Friday: see copied_from_input"
    if check("word " * 21).ok:
        return "a reply of twenty-one words passes: see word_count"
    if not check("word " * 20).ok:
        return f"a reply of twenty words is refused: {check('word ' * 20).problems[0].message}"
    for reply in _HARMLESS:
        if not check(reply).ok:
            return f"{reply!r} claims nothing and is refused: {check(reply).problems[0].message}"
    for reply in _CLAIMS:
        if check(reply).ok:
            return f"{reply!r} says that something was done, and passes"
        if check(reply).first_cause != "safety":
            return f"{reply!r} is refused, but filed under {check(reply).first_cause}: a false claim belongs on the rung policy"
    return ""


_COPIED = '{"rule": "copied_from_input", "path": "day", "code": "invented_day"}'
_WORDS = '{"rule": "word_count", "path": "reply", "max": 20, "code": "too_long"}'
_CLAIM = (
    '{"rule": "pattern", "path": "reply", "code": "claims_booking", "rung": "policy",\n'
    '     "patterns": [r"\\b(?:booked|reserved)\\b"], "says": "says that something was booked"}'
)


def _rules_code(*rules: str) -> str:
    return "my_rules = [\n    " + ",\n    ".join(rules) + ",\n]"


def _kappa(function: Any) -> str:
    if not callable(function):
        return f"expected a function, found a {type(function).__name__}"
    cases = (
        ("aabb", "aaab"), ("aaaabbbcca", "aaabbbcccc"), ("abab", "baba"), ("xyz", "xyz"), ("aaab", "cccb"),
    )  # fmt: skip
    for first, second in cases:
        found = function(list(first), list(second))
        if found is None:
            return "not started"
        right, agreed = cohen_kappa(first, second), sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
        if abs(found - right) < 1e-6:
            continue
        if abs(found - agreed) < 1e-6:
            return "that is the plain agreement; take out what chance alone would give"
        labels = len(set(first) | set(second))
        if labels > 1 and abs(found - (agreed - 1 / labels) / (1 - 1 / labels)) < 1e-6:
            return "chance is not the same for every label: people who say a often also meet at a often"
        if abs(found - (agreed - _chance(first, second))) < 1e-6:
            return "divide by what chance left to agree on"
        return f"for {first} and {second}, a letter a row, expected {right:.3f}, found {found:.3f}"
    return ""


def _chance(first: str, second: str) -> float:
    return sum(first.count(label) * second.count(label) for label in set(first)) / len(first) ** 2


_KAPPA = (
    "def kappa(first, second):\n"
    '    """Agreement of two lists of labels beyond chance."""\n'
    "    n = len(first)\n"
    "    observed = sum(a == b for a, b in zip(first, second)) / n\n"
    "    chance = {chance}\n"
    "    return {result}"
)
_MARGINS = "sum(first.count(x) / n * second.count(x) / n for x in set(first))"


def _split_of(function: Any) -> str:
    if not callable(function):
        return f"expected a function, found a {type(function).__name__}"
    names = getattr(getattr(function, "__code__", None), "co_names", ())
    if "random" in names or "choice" in names:
        return "chance decides: the next run would cut another test set"
    if "hash" in names:
        return "Python's own hash() of a text differs from process to process; use hashlib"
    messages = [f"message {i} about a bicycle" for i in range(3000)]
    sides = [function(message) for message in messages]
    if all(side is None for side in sides):
        return "not started"
    if not set(sides) <= {"test", "train"}:
        return f"expected 'test' or 'train', found {next(side for side in sides if side not in ('test', 'train'))!r}"
    if [function(f"  {m.upper()} ") for m in messages] != sides:
        return "the same message in capitals or with more spaces changes sides: even it out first, see ftlab.checks.normalize"
    test = sides.count("test") / len(sides)
    if not 0.12 <= test <= 0.18:
        return f"{100 * test:.0f} of 100 messages went to the test set, expected about 15"
    return ""


_SPLIT = (
    "from hashlib import sha256\n\nfrom ftlab.checks import normalize\n\n\n"
    "def split_of(message):\n"
    '    """Which side a message is on: "test" for about 15 of 100, else "train"."""\n'
    "    place = int(sha256({text}.encode()).hexdigest()[:8], 16) / 16**8  # from 0 up to 1\n"
    '    return "test" if place < {share} else "train"'
)


def _rows_needed(n: Any) -> str:
    if not isinstance(n, int):
        return f"expected a whole number of rows, found {n!r}"
    power = mcnemar_power(n, 0.05, 0.15) if 1 <= n <= 5000 else 1.0
    if power < 0.8:
        return f"with {n} rows the difference is found in {100 * power:.0f} of 100 tests; take more"
    if n > 5000 or mcnemar_power(round(0.9 * n), 0.05, 0.15) >= 0.8:
        return f"{n} rows are enough, but so are a tenth fewer; find the border"
    return ""


EXERCISES = (
    Exercise(
        id="04.1",
        title="Who decides?",
        level=1,
        minutes=4,
        text="Six demands on an answer of support_plan: it is one JSON object; every entity is copied from the message; the intent is the right "
        "one; `missing_info` lists what the intent needs and `entities` lacks; there is exactly one question if something is missing; "
        "it is kind. Give each the **least** that decides it: `answer` (the answer alone), `message` (… and the message), `label` (… and "
        "a label), `people`.",
        stub='decides = {"one_object": "", "copied": "", "right_intent": "", "missing_info": "", "one_question": "", "kind": ""}',
        name="decides",
        judge=_who_decides,
        hints=(
            "Could a program decide it if it had only the answer in its hands? If not, what would you give it?",
            "Three need the answer alone, and each of the other words is used once.",
        ),
        solution='decides = {"one_object": "answer", "copied": "message", "right_intent": "label", "missing_info": "answer",\n'
        '           "one_question": "answer", "kind": "people"}',
        wrong=(
            (
                'decides = {"one_object": "answer", "copied": "label", "right_intent": "label", "missing_info": "answer", '
                '"one_question": "answer", "kind": "people"}',
                "copied: whether a value",
            ),
            (
                'decides = {"one_object": "answer", "copied": "message", "right_intent": "label", "missing_info": "label", '
                '"one_question": "answer", "kind": "people"}',
                "recomputes it",
            ),
            (
                'decides = {"one_object": "answer", "copied": "message", "right_intent": "message", "missing_info": "answer", '
                '"one_question": "answer", "kind": "people"}',
                "right_intent:",
            ),
        ),
        done="What needs no label can also be checked in production, on every answer.",
    ),
    Exercise(
        id="04.2",
        title="A schema for a café",
        level=2,
        minutes=8,
        text="Write the schema for orders: `drink` is coffee, tea or cocoa; `cups` is a whole number from 1 to 12; `note` may be there and then is a "
        "text that is not empty; nothing else is allowed. The check tries orders that must pass and orders that must not.",
        stub='cafe = {}  # {"type": "object", "required": …, "additionalProperties": …, "properties": …}',
        name="cafe",
        judge=_cafe_schema,
        hints=(
            'Numbers have <code>minimum</code> and <code>maximum</code>, texts <code>minLength</code>; each property takes a <code>"type"</code>.',
            "<code>note</code> stands under properties and not under required.",
        ),
        solution='cafe = {\n    "type": "object",\n    "required": ["drink", "cups"],\n    "additionalProperties": False,\n    "properties": {\n'
        '        "drink": {"enum": ["coffee", "tea", "cocoa"]},\n'
        '        "cups": {"type": "integer", "minimum": 1, "maximum": 12},\n'
        '        "note": {"type": "string", "minLength": 1},\n    },\n}',
        wrong=(
            (
                'cafe = {"type": "object", "required": ["drink", "cups"], "properties": {"drink": {"enum": ["coffee", "tea", "cocoa"]}, '
                '"cups": {"type": "integer", "minimum": 1, "maximum": 12}, "note": {"type": "string", "minLength": 1}}}',
                "nobody agreed on",
            ),
            (
                'cafe = {"type": "object", "requird": ["drink", "cups"], "additionalProperties": False, "properties": {"drink": {"enum": '
                '["coffee", "tea", "cocoa"]}, "cups": {"type": "integer", "minimum": 1, "maximum": 12}, "note": {"type": "string"}}}',
                "without cups",
            ),
            (
                'cafe = {"type": "object", "required": ["drink", "cups", "note"], "additionalProperties": False, "properties": {"drink": {"enum": '
                '["coffee", "tea", "cocoa"]}, "cups": {"type": "integer"}, "note": {"type": "string"}}}',
                "should be fine and is refused",
            ),
            ('cafe = "object"', "as a dict"),
        ),
        done="You tested it as it should be tested: mostly by what it has to refuse.",
    ),
    Exercise(
        id="04.3",
        title="Rules for the workshop",
        level=2,
        minutes=8,
        text="Write three rules: `day` is copied from the message; `reply` has at most 20 words; `reply` never says that something was *booked* or "
        "*reserved* (a false claim: rung `policy`), while *Please book the stand at the counter* is fine. Kinds: `copied_from_input`, "
        "`word_count` (with `max`), `pattern` (with `patterns`, `says`, `rung`); all have `rule`, `path` and `code`.",
        stub="my_rules = []  # a dict for each rule",
        name="my_rules",
        judge=_workshop_rules,
        hints=(
            "Patterns are searched anywhere in the text, in small letters; <code>\\b</code> is the border of a word.",
            'One pattern is enough: <code>r"\\b(?:booked|reserved)\\b"</code>.',
        ),
        solution=_rules_code(_COPIED, _WORDS, _CLAIM),
        wrong=(
            (_rules_code(_COPIED, _WORDS, _CLAIM.replace('"policy"', '"rule"')), "belongs on the rung policy"),
            (
                _rules_code(_COPIED, _WORDS, _CLAIM.replace(r"\b(?:booked|reserved)\b", "book|reserve")),
                "claims nothing and is refused",
            ),
            (_rules_code(_COPIED, _WORDS.replace("20", "19"), _CLAIM), "twenty words is refused"),
            (_rules_code(_WORDS, _CLAIM), "see copied_from_input"),
        ),
        done="And yet *Consider it done* would pass: collect such sentences, and count them.",
    ),
    Exercise(
        id="04.4",
        title="Kappa in a function",
        level=3,
        minutes=8,
        text="Write `kappa(first, second)` for two lists of labels: observed agreement less chance agreement, divided by one less chance agreement. Chance "
        "is the sum, over the labels, of the product of how often each of the two says it (as fractions of 1).",
        stub='def kappa(first, second):\n    """Agreement of two lists of labels beyond chance."""\n    ...  # your lines here',
        name="kappa",
        judge=_kappa,
        hints=(
            "<code>first.count(x) / n</code> is how often the first says <code>x</code>.",
            "The lines by hand above do it for the rows of support_reply; make a function of them.",
        ),
        solution=_KAPPA.format(chance=_MARGINS, result="(observed - chance) / (1 - chance)"),
        wrong=(
            (_KAPPA.format(chance=_MARGINS, result="observed"), "plain agreement"),
            (
                _KAPPA.format(chance="1 / len(set(first) | set(second))", result="(observed - chance) / (1 - chance)"),
                "chance is not the same",
            ),
            (_KAPPA.format(chance=_MARGINS, result="observed - chance"), "divide by what chance left"),
            (_KAPPA.format(chance=_MARGINS, result="100 * (observed - chance) / (1 - chance)"), "expected"),
        ),
        done="If both always say the same single label, chance leaves nothing to agree on, and kappa has no value; ftlab calls that 1.",
    ),
    Exercise(
        id="04.5",
        title="Cut by hash",
        level=3,
        minutes=8,
        text="Write `split_of(message)`, which says `test` for about 15 of 100 messages and `train` for the others: the same on every machine and in every "
        "run, whatever other messages there are, and the same for a message in capitals or with other spaces.",
        stub='def split_of(message):\n    """Which side a message is on: "test" for about 15 of 100, else "train"."""\n    ...  # your lines here',
        name="split_of",
        judge=_split_of,
        hints=(
            "<code>hashlib.sha256(text.encode()).hexdigest()</code> gives 64 hexadecimal digits; the first eight are a number below 16**8.",
            "<code>ftlab.checks.normalize</code> evens out case and white space.",
        ),
        solution=_SPLIT.format(text="normalize(message)", share="0.15"),
        wrong=(
            (_SPLIT.format(text="message", share="0.15"), "changes sides"),
            (_SPLIT.format(text="normalize(message)", share="0.5"), "expected about 15"),
            (
                'def split_of(message):\n    return "test" if hash(message) % 100 < 15 else "train"',
                "differs from process to process",
            ),
            (
                'import random\n\n\ndef split_of(message):\n    return "test" if random.random() < 0.15 else "train"',
                "chance decides",
            ),
        ),
        done="That is how the loader cuts a folder without test rows of its own.",
    ),
    Exercise(
        id="04.6",
        title="Rows for a smaller hope",
        level=2,
        minutes=5,
        text="Five points would be worth having, and you expect the two models to differ on 15 % of the rows. From about how many rows on is such a difference "
        "found in four of five tests? (A tenth too many still counts as right.)",
        stub="from ftlab.stats import mcnemar_power\n\nn = None  # a number of rows; try mcnemar_power(n, 0.05, 0.15)",
        name="n",
        judge=_rows_needed,
        hints=(
            "The figure above has lines for 10 and 20 %: the answer lies between what they say for five points.",
            "Between 450 and 550.",
        ),
        solution="n = 500",
        wrong=(
            ("n = 200", "take more"),
            ("n = 2000", "find the border"),
            ("n = 9000", "find the border"),
            ('n = "500"', "whole number"),
        ),
        done="Halve the difference, and you need about four times the rows. Or make the models differ on fewer rows: paired tests reward that.",
    ),
)

OPEN = (
    OpenTask(
        id="04.1",
        title="A specification of your own",
        minutes=25,
        text="Take the task you thought of in notebook 00, or another. Write its specification on one page: the form of the answer, a sentence for each thing it must "
        "and must never do, and beside each sentence what decides it. Then write the schema, and label five messages by your page. Give the page and the five messages "
        "to somebody else, and compare.",
        rubric=(
            "Every sentence names what decides it: the answer, the message, a label or people.",
            "The schema refuses at least three answers that you wrote to be refused.",
            "A hard case is decided in words, with an example, and a reader would decide the next one alike.",
            "Disagreements on the five messages led to a change of the page, not only of a label.",
            "It says how many test rows there will be, which difference they can show, and where the hash is kept.",
            "What only people can say has a question, a number of items and two raters.",
        ),
    ),
)

QUIZ = (
    Question(
        "An answer passes every automatic check. What do you know?",
        (
            "That the customer will be content.",
            "That it has none of the faults that the checks look for.",
            "That the model understood the message.",
        ),
        1,
        (
            "No check looked at that; the unkind answer of section 1 passed as well.",
            "Which is worth much if the list of checks is good, and the list says what it leaves out.",
            "A right answer may come about in many ways; a check sees the answer, not the way to it.",
        ),
    ),
    Question(
        "A schema accepts every good answer that you tried. What is missing?",
        (
            "More good answers.",
            "Nothing, it is done.",
            "Bad answers that it has to refuse.",
        ),
        2,
        (
            "An empty schema accepts them all too.",
            "An empty schema would have passed this test as well.",
            "A misspelt or missing keyword only shows on what should have been refused.",
        ),
    ),
    Question(
        "Two labellers agree on 95 % of the rows; both call 95 % of the rows 'fine'. How good is that?",
        (
            "Very good.",
            "Little better than chance: they would meet on about nine of ten rows without reading.",
            "Bad, since 5 % are wrong.",
        ),
        1,
        (
            "The plain share flatters wherever one label is frequent; kappa takes that out.",
            "By chance: .95 × .95 + .05 × .05, about 90 %, so kappa is about one half, with few rows that carry it.",
            "Where two differ, nobody knows yet who is wrong; often it is the guide.",
        ),
    ),
    Question(
        "After the results are in, you find three wrong labels in the frozen test set. What now?",
        (
            "Mend them, write the new hash, and score all systems anew on the new test.",
            "Mend them and keep the old results beside the new ones.",
            "Leave them for ever: the set is frozen.",
        ),
        0,
        (
            "It is another test then, and the hash says so; systems compare only on the same one.",
            "Results on different tests do not compare, however small the change.",
            "Freezing is against unnoticed changes, not against mending; but mend for a reason that no system's score gave you.",
        ),
    ),
    Question(
        "Two raters with shuffled sheets agree perfectly, and always took the longer reply. What follows?",
        (
            "The longer replies are better.",
            "Shuffling failed.",
            "They may have rated length; look at pairs of like length.",
        ),
        2,
        (
            "Perhaps, but a habit would give the same numbers.",
            "It did what it can: it hides sides and names. Length stands in the reply itself.",
            "Agreement shows that two follow one rule, not that it is the rule you asked about.",
        ),
    ),
)
