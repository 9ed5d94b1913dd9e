"""Exercises and quiz of notebook 03."""

import functools
from typing import Any

from ftlab.choose import LEVERS
from ftlab.course.exercise import Exercise, OpenTask, Question
from ftlab.course.levers import computed
from ftlab.stats import wilson_interval
from ftlab.task import load_task, stratified

_RIGHT_LEVERS = {
    "sums": "rules_in_code",
    "prices": "retrieval",
    "braces": "constrained_decoding",
    "taste": "sft",
    "idea": "prompt_only",
    "threats": "preference_tuning",
}
_WHY = {
    "sums": "a sum has one way to be right, and a program finds it every time",
    "prices": "next week other prices are right; what changes has to be looked up at the moment of asking",
    "braces": "the values are right already, only the form fails, and form can be held without a single row",
    "taste": "the judgement is in the rows and nowhere else, and a classifier has shown that it can be learnt from them",
    "idea": "nothing was measured yet, so nothing is known to fail: a careful prompt comes first",
    "threats": "the model writes good replies already; which of two it should prefer under pressure is what pairs say",
}


def _levers(levers: Any) -> str:
    if not isinstance(levers, dict) or set(levers) != set(_RIGHT_LEVERS):
        return f"expected a dict with the keys {', '.join(_RIGHT_LEVERS)}"
    if not any(levers.values()):
        return "not started"
    if unknown := [value for value in levers.values() if value not in LEVERS]:
        return f"{unknown[0]!r} is no lever; the levers are {', '.join(LEVERS)}"
    wrong = [name for name, right in _RIGHT_LEVERS.items() if levers[name] != right]
    return f"{wrong[0]}: {_WHY[wrong[0]]}" if wrong else ""


def _fewest(k: Any) -> str:
    if not isinstance(k, int) or isinstance(k, bool) or not 0 <= k <= 100:
        return f"expected a whole number of rows from 0 to 100, found {k!r}"
    if (low := wilson_interval(k, 100)[0]) < 0.9:
        return f"with {k} of 100 the interval begins at {100 * low:.1f} %, which is below the bar"
    if wilson_interval(k - 1, 100)[0] >= 0.9:
        return f"{k} are enough, but so are {k - 1}; find the border"
    return ""


@functools.cache
def _labelled() -> tuple[Any, list[dict]]:
    task = load_task("support_plan")
    return task, [row.output for row in stratified(task.rows("train"), 300, "intent")]


def _missing(missing: Any) -> str:
    if not callable(missing):
        return f"expected a function of an intent and the entities, found a {type(missing).__name__}"
    task, outputs = _labelled()
    for output in outputs:
        found, right = missing(output["intent"], output["entities"]), computed(task, output)
        if found is None or found is ...:
            return "not started"
        if found == right:
            continue
        asked = f"for {output['intent']} with {', '.join(output['entities']) or 'no value'}"
        if not isinstance(found, list):
            return f"{asked}: expected a list, found a {type(found).__name__}"
        if sorted(found) == sorted(right):
            return f"{asked}: the right names in another order; keep the order of the table, {right}"
        return f"{asked}: expected {right}, found {found}"
    return ""


_NEXT = (
    ("banana", "an", {"a"}, "after this piece only one letter ever comes"),
    ("banana", "a", {"n"}, "at the end of the message nothing follows"),
    ("on oak", "o", {"n", "a"}, "a piece may stand in several places of the message, and each may be gone on with"),
    ("aaab", "aa", {"a", "b"}, "places may overlap: look from every letter on, not only behind the last find"),
    ("ruth@post", "x", set(), "where the piece does not stand in the message, no letter may follow"),
    ("oh", "", {"o", "h"}, "at the start every letter of the message may come"),
)


def _next_letters(next_letters: Any) -> str:
    if not callable(next_letters):
        return f"expected a function of a message and the piece written so far, found a {type(next_letters).__name__}"
    for message, piece, right, told in _NEXT:
        found = next_letters(message, piece)
        if found is None or found is ...:
            return "not started"
        if not isinstance(found, set | frozenset):
            return f"expected a set of letters, found a {type(found).__name__}"
        if set(found) != right:
            return f"for {piece!r} in {message!r} expected {sorted(right)}, found {sorted(found)}: {told}"
    return ""


_PASSAGES = (
    "The library in Alderby is open on weekdays until 17:30.",
    "The library in Cornwick is open on weekdays until 19:00.",
    "The museum in Alderby is closed on Mondays.",
    "Dogs are not allowed in any library.",
)
_ASKED = (
    ("library Cornwick", 1, "the passage that holds both words is the one"),
    ("Dogs in the library", 3, "a word that many passages hold has to count for less than one that only a single passage holds"),
    ("When is the Museum in ALDERBY open", 2, "small and capital letters make no difference to a word"),
    ("may i bring dogs?", 3, "a mark after a word is no part of it"),
)


def _best_passage(best_passage: Any) -> str:
    if not callable(best_passage):
        return f"expected a function of a question and the passages, found a {type(best_passage).__name__}"
    for question, right, told in _ASKED:
        found = best_passage(question, list(_PASSAGES))
        if found is None or found is ...:
            return "not started"
        if not isinstance(found, int) or not 0 <= found < len(_PASSAGES):
            return f"expected the place of a passage, from 0 to {len(_PASSAGES) - 1}, found {found!r}"
        if found != right:
            return f"for {question!r} expected {_PASSAGES[right]!r}, found {_PASSAGES[found]!r}: {told}"
    return ""


_PAID = (60 * 30 + 2 * 4) / (450 * 0.4 / 1e6)  # requests


def _break_even(requests: Any) -> str:
    if not isinstance(requests, int | float) or isinstance(requests, bool) or requests <= 0:
        return f"expected a number of requests, found {requests!r}"
    ratio = requests / _PAID
    if abs(ratio - 1) < 0.01:
        return ""
    if abs(requests * 450 * 0.4 / 1e6 - 8) < 0.1:
        return "that pays for the machine alone; the people who label cost far more"
    if ratio < 0.01:
        return "far too few: mind that the price is for a million tokens"
    return (
        f"at {requests:,.0f} requests the short prompt has saved {requests * 450 * 0.4 / 1e6:,.0f} €; compare with what was spent"
    )


_MISSING_HEAD = """\
from ftlab import load_task

required = next(rule for rule in load_task("support_plan").rules if rule["rule"] == "required_fields")["required"]
print(required["update_billing"])


def missing(intent, entities):"""
_MISSING = f"{_MISSING_HEAD}\n    return [name for name in required[intent] if name not in entities]"
_LETTERS = """\
def next_letters(message, piece):
    places = [at for at in range(len(message)) if message.startswith(piece, at)]
    return {message[at + len(piece)] for at in places if at + len(piece) < len(message)}"""
_BEST = """\
import re


def words(text):
    return set(re.findall(r"\\w+", text.lower()))


def best_passage(question, passages):
    held = [words(passage) for passage in passages]

    def score(known):
        return sum(1 / sum(word in other for other in held) for word in words(question) & known)

    return max(range(len(passages)), key=lambda i: score(held[i]))"""


EXERCISES = (
    Exercise(
        id="03.1",
        title="Beyond doubt",
        level=2,
        minutes=4,
        text="The bar is 90 % of all messages. How many of 100 labelled rows has a prompt to pass, at least, so that its whole 95 % interval "
        "reaches the bar?",
        stub="from ftlab import wilson_interval\n\nk = None  # rows of 100; try wilson_interval(k, 100)",
        name="k",
        judge=_fewest,
        hints=("Look at the lower end only: it has to be 0.9 or more.", "Between 93 and 98."),
        solution="k = 96",
        wrong=(("k = 90", "below the bar"), ("k = 99", "find the border"), ("k = 0.96", "whole number")),
        done="With a hundred rows a bar of nine in ten asks for a good deal more than nine in ten.",
    ),
    Exercise(
        id="03.2",
        title="A rule in two lines",
        level=3,
        minutes=6,
        text="Write `missing(intent, entities)`: the fields that the intent needs and the entities lack, in the order of the table. The check "
        "holds it against labelled training rows.",
        stub=f"{_MISSING_HEAD}\n    ...  # your code here",
        name="missing",
        judge=_missing,
        hints=(
            "Go through <code>required[intent]</code> and keep the names that are no key of <code>entities</code>.",
            "A list comprehension keeps the order; a set would lose it.",
        ),
        solution=_MISSING,
        wrong=(
            (_MISSING.replace("not in entities", "in entities"), "expected ["),
            (_MISSING.replace("[name for", "sorted(name for").replace("in entities]", "in entities)"), "in another order"),
            (_MISSING.replace("[name for", "{name for").replace("in entities]", "in entities}"), "expected a list, found a set"),
        ),
        done="No row was needed, and where the desk changes its table, the next answer is already right.",
    ),
    Exercise(
        id="03.3",
        title="The guard",
        level=3,
        minutes=8,
        text="Write `next_letters(message, piece)`: the set of letters that may come next so that the value stays a piece of the message. "
        "`piece` is what has been written of the value so far.",
        stub="def next_letters(message, piece):\n    ...  # a set of letters",
        name="next_letters",
        judge=_next_letters,
        hints=(
            "Find every place at which the piece stands in the message, and take the letter behind it.",
            "<code>message.startswith(piece, at)</code> for every <code>at</code>; mind the end of the message.",
        ),
        solution=_LETTERS,
        wrong=(
            (
                "def next_letters(message, piece):\n    end = message.find(piece) + len(piece)\n"
                "    return {message[end]} if piece in message and end < len(message) else set()",
                "in several places",
            ),
            (
                "import re\n\n\ndef next_letters(message, piece):\n    ends = [m.end() for m in re.finditer(re.escape(piece), message)]\n"
                "    return {message[end] for end in ends if end < len(message)}",
                "places may overlap",
            ),
            (
                "def next_letters(message, piece):\n    return {message[at + len(piece)] for at in range(len(message)) "
                "if message.startswith(piece, at)}",
                "IndexError",
            ),
        ),
        done="That is the whole idea of constrained decoding. The guard of ftlab also knows JSON, escapes and the pieces of a tokenizer.",
    ),
    Exercise(
        id="03.4",
        title="A search of your own",
        level=3,
        minutes=10,
        text="Write `best_passage(question, passages)`: the place (0, 1, …) of the passage that fits the question best. Count the words they "
        "share, and let a word count for less the more passages hold it.",
        stub="def best_passage(question, passages):\n    ...  # the place of a passage",
        name="best_passage",
        judge=_best_passage,
        hints=(
            'Words of a text: <code>set(re.findall(r"\\w+", text.lower()))</code>.',
            "Add 1 / (number of passages that hold it) for each shared word; the largest sum wins.",
        ),
        solution=_BEST,
        wrong=(
            (_BEST.replace(".lower()", ""), "small and capital"),
            (_BEST.replace('set(re.findall(r"\\w+", text.lower()))', "set(text.lower().split())"), "no part of it"),
            (
                _BEST.replace(
                    "sum(1 / sum(word in other for other in held) for word in words(question) & known)",
                    "len(words(question) & known)",
                ),
                "for less",
            ),
        ),
        done="Rare words weigh more: that is the I, D and F of TF-IDF. Search can be measured alone, before any model reads what it found.",
    ),
    Exercise(
        id="03.5",
        title="When has the short prompt paid?",
        level=2,
        minutes=5,
        text="A tuning took 60 hours of labelling at 30 € and 2 hours of a machine at 4 €. The tuned model needs 450 tokens of prompt less a "
        "request, and a million tokens of prompt cost 0.40 €. After how many requests has it paid for itself by the shorter prompt alone?",
        stub="requests = None  # a number",
        name="requests",
        judge=_break_even,
        hints=("Spent: labelling and machine. Saved a request: 450 tokens, each a millionth of 0.40 €.", "About ten million."),
        solution="requests = (60 * 30 + 2 * 4) / (450 * 0.40 / 1_000_000)",
        wrong=(
            ("requests = (2 * 4) / (450 * 0.40 / 1_000_000)", "the machine alone"),
            ("requests = (60 * 30 + 2 * 4) / (450 * 0.40)", "for a million tokens"),
            ("requests = 1_000_000", "has saved"),
        ),
        done="Few desks see that many messages. Tune for what the answers are worth; the shorter prompt is a gift on top.",
    ),
    Exercise(
        id="03.6",
        title="A lever for each",
        level=1,
        minutes=6,
        text="Six situations, six levers. *sums*: a model adds up hours on time sheets and is wrong now and then. *prices*: it tells what a "
        "ticket costs, and prices change weekly. *braces*: its values are right, but one answer in four has prose around the JSON; 60 rows. "
        "*taste*: it sorts letters by the judgement of two editors, who agree; 2,000 rows; a plain classifier on them beats the prompt. *idea*: "
        "there are 20 examples and nobody has tried anything. *threats*: tuned and good, but it gives in to customers who threaten; 600 pairs "
        "of replies.",
        stub="from ftlab.choose import LEVERS\n\nprint(list(LEVERS))\n"
        'levers = {"sums": "", "prices": "", "braces": "", "taste": "", "idea": "", "threats": ""}',
        name="levers",
        judge=_levers,
        hints=(
            "Ask first: could a program compute it? Does the answer change? Is it only the form?",
            "Each is used once; continued pretraining is not among them.",
        ),
        solution=f"levers = {_RIGHT_LEVERS!r}",
        wrong=(
            (f"levers = {_RIGHT_LEVERS | {'prices': 'sft'}!r}", "prices: next week"),
            (f"levers = {_RIGHT_LEVERS | {'sums': 'sft', 'taste': 'rules_in_code'}!r}", "sums: a sum"),
            (f"levers = {_RIGHT_LEVERS | {'idea': 'train'}!r}", "is no lever"),
        ),
        done="Four of the six need no training, and the two that do were measured first.",
    ),
)

OPEN = (
    OpenTask(
        id="03.1",
        title="Your task, and what would make you not train",
        minutes=15,
        text="Take a task of your own. Answer the seventeen questions of `ftlab choose` for it (`choose.QUESTIONS`), as numbers where you have "
        "them and as guesses where not. Write down the lever that you would pull first, one measurement that would change your mind, and the "
        "result of it at which you would *not* train.",
        rubric=(
            "Guesses are marked as guesses, and the one that matters most is the first to be measured.",
            "The bar is a number, fixed before anything is measured, and says what a wrong answer costs.",
            "Parts of the task go to different levers: what code computes, what is looked up, what is left for a model.",
            "The result that speaks against training is one that could really come out.",
            "It counts hours of people as well as minutes of machines, and who keeps the thing alive next year.",
        ),
    ),
)

QUIZ = (
    Question(
        "A prompt passes 19 of 20 rows, and nine in ten are wanted. What do you do?",
        ("Keep the prompt and stop.", "Label more rows before you decide.", "Tune, since one row failed."),
        1,
        (
            "Twenty rows leave an interval that reaches far below nine in ten; it may be good enough, nobody knows.",
            "The share looks fine, its interval is wide: rows are the cheapest lever here.",
            "Nothing is known to fail that a tuning would mend.",
        ),
    ),
    Question(
        "With constrained decoding every output is valid JSON and no value is invented. What follows for the answers?",
        (
            "They are right.",
            "They have the form, and may be wrong in every value.",
            "They are as wrong as before.",
        ),
        1,
        (
            "Dice held to the form do the same, and know nothing.",
            "Form and copying can be guaranteed by code; which piece is the right one cannot.",
            "What failed by form alone is mended; it is the content that no constraint can make right.",
        ),
    ),
    Question(
        "The answer to the same question changes every month. Why is tuning the wrong lever?",
        (
            "Models cannot learn facts.",
            "Its weights hold the answers of the day it was trained, and cannot say where they come from.",
            "Tuning takes longer than a month.",
        ),
        1,
        (
            "They can learn some, slowly; but then they keep them.",
            "A passage is exchanged in a minute and can be quoted; weights are neither.",
            "It may take minutes. The labelling does not, and it would start again each month.",
        ),
    ),
    Question(
        "A field of the answer follows from two others by a table. Where does it belong?",
        (
            "Into the training rows, so that the model learns the table.",
            "Into the prompt, so that the model can read it.",
            "Into code behind the model.",
        ),
        2,
        (
            "It learns the table nearly, and again after each change of the table.",
            "It may read it and still get it wrong now and then.",
            "Code is right whenever the two fields are, and follows the table at once.",
        ),
    ),
    Question(
        "When are pairs of a better and a worse answer the right thing to collect?",
        (
            "Whenever there are too few labelled rows.",
            "When several answers are acceptable and one is preferred, and the model can write both.",
            "When the model makes broken JSON.",
        ),
        1,
        (
            "A pair says less than a label where there is one right answer; collect rows.",
            "Then no label says it all, and the comparison is what there is to know.",
            "That is form: hold it, or show right answers.",
        ),
    ),
)
