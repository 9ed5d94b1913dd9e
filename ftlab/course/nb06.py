"""Exercises and quiz of notebook 06."""

import json
import re
from difflib import SequenceMatcher
from typing import Any

from ftlab.checks import compare
from ftlab.course.exercise import Exercise, OpenTask, Question, assigned
from ftlab.datatools.similar import jaccard, shingles, words
from ftlab.task import load_task

_MESSAGES = {
    "locked": "I am locked out, what now?",
    "policy": "just wondering: what is your refund policy?",
    "twice": "you charged me twice this month",
    "pause": "can I pause Lumen Notes for the summer?",
    "replaced": "cancel my plan. no wait, keep it, but send me the invoice for order 7731",
}
_INTENTS = {
    "locked": ("unclear", 'no reason is given; the guide decides "locked out" with no reason as unclear'),
    "policy": ("out_of_scope", "a question about the rules with no request of one's own is none of the intents"),
    "twice": ("request_refund", 'the guide decides "charged twice" as request_refund, also without the words "money back"'),
    "pause": ("out_of_scope", "pausing is no cancelling: the guide lists it among what is out of scope"),
    "replaced": ("get_invoice", "a request that is taken back and replaced counts as the one that stands at the end"),
}
_FIRST = "please send me the invoice for order 50021, my mail is ana@post.example"
_FIRST_ANSWER = {
    "entities": {"email": "ana@post.example", "order_id": "50021"},
    "intent": "get_invoice",
    "missing_info": [],
    "next_step": "Please open Settings > Billing > Invoices and download the invoice with that number.",
}
_TWIN_ANSWER = {
    "entities": {"email": "ana@post.example"},
    "intent": "get_invoice",
    "missing_info": ["order_id"],
    "next_step": "What is the order or invoice number?",
}
_TWIN = {"input": _FIRST.replace("order", "ticket"), "output": _TWIN_ANSWER}
_FAR = {"input": "bill pls, ticket 50021, ana@post.example", "output": _TWIN_ANSWER}
_NO_ORDER = re.compile(r"\b(?:ticket|case|customer|tracking|transaction)\W+(?:number\W+|no\W+)?$", re.IGNORECASE)
_TEXTS = (
    ("Where is my order?", "where is my order"),
    ("please cancel my plan today", "please cancel my plan"),
    ("money back for order 1", "a good day to you all"),
)
_TOOLS = ("loader", "leakage", "conflict", "template", "nothing")
_CASES = {
    "forty": ("template", "one wording with other numbers is a template: each row looks new, and together they teach one sentence"),
    "validation": ("leakage", "a message that is held out must not stand in training, not even with a word changed"),
    "invented": (
        "loader",
        "the checker recomputes what can be recomputed: a value that the message lacks is refused when the rows load",
    ),
    "both": ("conflict", "the same words with two classes contradict each other, whichever is right"),
    "forgotten": ("nothing", "the label breaks no rule and looks like any other; only a second reading of the message finds it"),
}
_PROBABILITIES = ((0.9, 0.1), (0.6, 0.4), (0.3, 0.7), (0.2, 0.8), (0.4, 0.6))
_LABELS = (0, 0, 0, 1, 1)


def _labels(labels: Any) -> str:
    if not isinstance(labels, dict) or set(labels) != set(_INTENTS):
        return f"expected a dict with the keys {', '.join(_INTENTS)}"
    if not any(labels.values()):
        return "not started"
    wrong = [name for name, (intent, _) in _INTENTS.items() if labels[name] != intent]
    return f"{wrong[0]}: {_INTENTS[wrong[0]][1]}" if wrong else ""


def _is_twin(twin: Any) -> str:
    if not isinstance(twin, dict) or set(twin) != {"input", "output"}:
        return "expected a dict with input and output"
    text, output = twin["input"], twin["output"]
    if not text or not output:
        return "not started"
    task = load_task("support_plan")
    if problems := task.checker.check(json.dumps(output), text, lang="en").problems:
        return f"the loader would refuse it: {problems[0].path} {problems[0].message}"
    if SequenceMatcher(None, words(_FIRST), words(text)).ratio() < 0.7:
        return "too far from the first message: two messages that differ in everything teach no difference; change one word or two"
    if not compare(output, _FIRST_ANSWER, task.fields):
        return "the answer is that of the first message, so this is a copy, not a twin: change a word on which the answer hangs"
    number = output["entities"].get("order_id")
    if number and _NO_ORDER.search(text[: text.lower().find(number.lower())]):
        return "by the guide a ticket, case, customer, tracking or transaction number is no order_id; leave it out"
    return ""


def _similarity(function: Any) -> str:
    if not callable(function):
        return f"expected a function of two texts, found a {type(function).__name__}"
    found = [function(a, b) for a, b in _TEXTS]
    if all(value is None for value in found):
        return "not started"
    sets = [(shingles(a), shingles(b)) for a, b in _TEXTS]
    for (a, b), value, (one, two) in zip(_TEXTS, found, sets, strict=True):
        expected = jaccard(one, two)
        if value == expected:
            continue
        if value == len(one & two) / min(len(one), len(two)):
            return f"{value:.2f} for {a!r} and {b!r}: divide by the pieces that either has, not by those of the shorter message"
        return f"expected {expected:.2f} for {a!r} and {b!r}, found {value}"
    return ""


def _tools(answers: Any) -> str:
    if not isinstance(answers, dict) or set(answers) != set(_CASES):
        return f"expected a dict with the keys {', '.join(_CASES)}"
    if not any(answers.values()):
        return "not started"
    for name, (tool, why) in _CASES.items():
        if answers[name] not in _TOOLS:
            return f"{name}: expected one of {', '.join(_TOOLS)}"
        if answers[name] != tool:
            return f"{name}: {why}"
    return ""


def _limits(function: Any) -> str:
    if not callable(function):
        return f"expected a function of probabilities and labels, found a {type(function).__name__}"
    found = function([list(p) for p in _PROBABILITIES], list(_LABELS))
    if found is None:
        return "not started"
    if not isinstance(found, list | tuple) or len(found) != 2:
        return f"expected a list with one limit for each of two classes, found {found!r}"
    rounded = [round(float(value), 3) for value in found]
    if rounded == [0.6, 0.7]:
        return ""
    everyone = [round(sum(p[j] for p in _PROBABILITIES) / 5, 3) for j in (0, 1)]
    if rounded == everyone:
        return "that is the mean over all rows; take only the rows that are labelled with the class"
    if rounded == [0.9, 0.8]:
        return "that is the highest probability; one very sure row would set the limit for all, so take the mean"
    return f"expected [0.6, 0.7] for these five rows, found {rounded}"


def _general_rows(n: Any) -> str:
    if not isinstance(n, int):
        return f"expected a whole number of rows, found {n!r}"
    if n == 100:
        return ""
    if n == 90:
        return "90 is a tenth of the task's own rows; then 90 of 990 are general, less than a tenth of the whole"
    return f"with {n} general rows they are {100 * n / (900 + n):.1f} % of the whole, not ten"


EXERCISES = (
    Exercise(
        id="06.1",
        title="Label by the guide",
        level=1,
        minutes=5,
        text="Give each message its intent, by the guide and not by feeling. The guide's hard cases are in `specification.md` in the folder "
        "of the task; the cell prints them.",
        stub="from ftlab import load_task\n\n"
        'guide = (load_task("support_plan").folder / "specification.md").read_text(encoding="utf-8")\n'
        'print(guide[guide.index("### Intent: hard cases") : guide.index("## Entities")])\n'
        f"messages = {json.dumps(_MESSAGES, indent=4)}\n"
        'intents = {"locked": "", "policy": "", "twice": "", "pause": "", "replaced": ""}',
        name="intents",
        judge=_labels,
        hints=(
            "For each message there is a line in the guide that names it or its like.",
            "Two of the five are <code>out_of_scope</code>, and the last one is decided by what stands at the end.",
        ),
        solution=assigned({name: intent for name, (intent, _) in _INTENTS.items()}, "intents"),
        wrong=(
            (
                assigned({name: intent for name, (intent, _) in _INTENTS.items()} | {"locked": "reset_password"}, "intents"),
                "locked:",
            ),
            (
                assigned({name: intent for name, (intent, _) in _INTENTS.items()} | {"pause": "cancel_account"}, "intents"),
                "no cancelling",
            ),
            ('intents = {"locked": "unclear"}', "expected a dict"),
        ),
        done="Two people who follow the guide now agree where two who follow their feeling would not.",
    ),
    Exercise(
        id="06.2",
        title="Write a twin",
        level=2,
        minutes=8,
        text=f"The message *{_FIRST}* is answered with intent `get_invoice`, both values copied and nothing missing. Write its near twin: a "
        "message that differs in a word or two, and whose right answer differs.",
        stub='twin = {"input": "", "output": {}}  # output: entities, intent, missing_info, next_step',
        name="twin",
        judge=_is_twin,
        hints=(
            "What if the number were of another kind, or the address somebody else's?",
            "With <code>ticket 50021</code> the order number is missing, so it is asked for with exactly one question.",
        ),
        solution=assigned(_TWIN, "twin"),
        wrong=(
            (assigned({"input": _FIRST + " thanks", "output": _FIRST_ANSWER}, "twin"), "a copy, not a twin"),
            (assigned(_FAR, "twin"), "too far"),
            (assigned(_TWIN | {"output": _TWIN_ANSWER | {"missing_info": []}}, "twin"), "missing_info"),
        ),
        done="One such pair says more about what an order number is than ten more rows with one.",
    ),
    Exercise(
        id="06.3",
        title="Similarity in one line",
        level=3,
        minutes=8,
        text="Write `similarity(a, b)`: the Jaccard similarity of the word 3-grams of two messages. `shingles(text)` gives the set of a "
        "message's 3-grams without case and punctuation.",
        stub="from ftlab.datatools.similar import shingles\n\n\ndef similarity(a, b):\n"
        '    """Size of what both have over size of what either has."""\n    ...  # your line here',
        name="similarity",
        judge=_similarity,
        hints=(
            "For two Python sets, <code>x &amp; y</code> is what both have and <code>x | y</code> what either has.",
            "Work with <code>shingles(a)</code> and <code>shingles(b)</code>, and take the <code>len</code> of each result.",
        ),
        solution="from ftlab.datatools.similar import shingles\n\n\ndef similarity(a, b):\n"
        "    x, y = shingles(a), shingles(b)\n    return len(x & y) / len(x | y)",
        wrong=(
            (
                "from ftlab.datatools.similar import shingles\n\n\ndef similarity(a, b):\n"
                "    x, y = shingles(a), shingles(b)\n    return len(x & y) / min(len(x), len(y))",
                "not by those of the shorter",
            ),
            (
                "def similarity(a, b):\n    x, y = set(a.split()), set(b.split())\n    return len(x & y) / len(x | y)",
                "expected 1.00",
            ),
            ("similarity = 0.5", "expected a function"),
        ),
        done="MinHash is a way to get this number for all pairs without looking at all pairs.",
    ),
    Exercise(
        id="06.4",
        title="Which tool finds it?",
        level=1,
        minutes=4,
        text="Five faults, and for each the tool that finds it: `loader`, `leakage`, `conflict`, `template` or `nothing`. *forty*: forty rows "
        "*refund for order N please*, each with another N. *validation*: a validation message with one word changed, in `train.jsonl`. "
        "*invented*: the label holds an address that the message lacks. *both*: *cancel it* labelled `cancel_account` once and "
        "`out_of_scope` once. *forgotten*: the label lacks a date that the message names.",
        stub='tools = {"forty": "", "validation": "", "invented": "", "both": "", "forgotten": ""}',
        name="tools",
        judge=_tools,
        hints=(
            "Each of the five words is used once.",
            "Ask of each: does it show in the row alone, in two rows side by side, in many rows, or only to who reads the message?",
        ),
        solution=assigned({name: tool for name, (tool, _) in _CASES.items()}, "tools"),
        wrong=(
            (
                assigned({name: tool for name, (tool, _) in _CASES.items()} | {"forgotten": "loader"}, "tools"),
                "only a second reading",
            ),
            (assigned({name: tool for name, (tool, _) in _CASES.items()} | {"both": "template"}, "tools"), "contradict each other"),
            (assigned({name: "magic" for name in _CASES}, "tools"), "expected one of"),
        ),
        done="The last one is the reason why rows are labelled twice.",
    ),
    Exercise(
        id="06.5",
        title="The limits of confident learning",
        level=3,
        minutes=10,
        text="Write `limits(probabilities, labels)`: for each of the two classes the mean probability that the rows *labelled* with it get for "
        "it. `probabilities` has a row per message and a column per class, `labels` the class number of each message.",
        stub='def limits(probabilities, labels):\n    """One limit per class, as a list."""\n    ...  # your lines here',
        name="limits",
        judge=_limits,
        hints=(
            "For class 0 take column 0, and only the rows whose label is 0.",
            "<code>[p[j] for p, label in zip(probabilities, labels) if label == j]</code> are the numbers to average for class j.",
        ),
        solution="def limits(probabilities, labels):\n    means = []\n    for j in (0, 1):\n"
        "        own = [p[j] for p, label in zip(probabilities, labels) if label == j]\n        means.append(sum(own) / len(own))\n"
        "    return means",
        wrong=(
            (
                "def limits(probabilities, labels):\n    return [sum(p[j] for p in probabilities) / len(labels) for j in (0, 1)]",
                "mean over all rows",
            ),
            (
                "def limits(probabilities, labels):\n"
                "    return [max(p[j] for p, label in zip(probabilities, labels) if label == j) for j in (0, 1)]",
                "highest probability",
            ),
            ("def limits(probabilities, labels):\n    return [0.5, 0.5]", "expected [0.6, 0.7]"),
        ),
        done="A class on which the model is never sure gets a low limit: what counts is how sure it is for that class.",
    ),
    Exercise(
        id="06.6",
        title="A tenth of the whole",
        level=2,
        minutes=4,
        text="A task has 900 rows of its own. How many general rows have to be added so that they make up a tenth of the mixed set?",
        stub="general = None  # a whole number",
        name="general",
        judge=_general_rows,
        hints=(
            "The mixed set is larger than 900, and the tenth is of the mixed set.",
            "Solve n / (900 + n) = 0.1 for n.",
        ),
        solution="general = 100",
        wrong=(
            ("general = 90", "a tenth of the task's own rows"),
            ("general = 10", "not ten"),
            ('general = "some"', "whole number"),
        ),
        done="Shares are always of the whole set: a card that says ten per cent should say of what.",
    ),
)

OPEN = (
    OpenTask(
        id="06.1",
        title="A page of guide for a task of your own",
        minutes=20,
        text="Take the task from your notes to notebook 00, or any form that you fill in often. Write three hard cases, decide each, and write "
        "for each a message and its near twin. Then write the five lines of the data card that only a person can write.",
        rubric=(
            "Each hard case is one on which two careful people would differ, and the decision fits in one sentence.",
            "The two messages of a pair differ in a word or two, and the answers differ for a reason that the guide names.",
            "Somebody else labels the six messages by the page alone and gets the same.",
            "The card says where the messages came from, who labelled them, what was taken out, what is missing and what they must not be used for.",
            "It names a kind of message that the rows do not have, and does not promise that the model can do it.",
        ),
    ),
)

QUIZ = (
    Question(
        "Rows on which two labellers differed were taken out; the rest agree completely. What does the agreement show?",
        (
            "That the labels are right.",
            "How the rows were chosen; the rows taken out would show how hard the task is.",
            "That the guide is complete.",
        ),
        1,
        (
            "Two people can be wrong together, above all if they read the same page.",
            "A filter makes agreement. Report how many rows were taken out, and agreement before that.",
            "The rows that it does not decide are just those that were removed.",
        ),
    ),
    Question(
        "Two messages are almost the same and their answers differ. What should a tool that removes repetitions do?",
        ("Drop the later one.", "Drop both.", "Keep both."),
        2,
        (
            "Then the word on which the answer hangs has no row to be learnt from.",
            "Then the set has lost its best lesson on that point.",
            "They are twins: together they show which word makes the difference.",
        ),
    ),
    Question(
        "A third of the validation messages stand in the training rows with a typing slip. What happens to the scores?",
        (
            "Nothing, since the messages are not the same.",
            "They rise on those messages and say little about new ones.",
            "They fall, since the slips confuse the model.",
        ),
        1,
        (
            "Near is enough: a model that has seen the row answers its copy from memory.",
            "The score then measures memory. Only the other messages still tell what a stranger's message would get.",
            "Slips cost a little; having seen the message helps far more.",
        ),
    ),
    Question(
        "A tool lists fifty rows whose labels the other rows speak against. What do you do?",
        (
            "Delete the fifty.",
            "Give each the class that the tool finds likelier.",
            "Read them with the guide, mend what is wrong, keep what is right.",
        ),
        2,
        (
            "Among them are the hard rows that a model most needs: a right label on an unusual message looks doubtful too.",
            "Then the rows say what a word-count classifier says, and the model can only learn that.",
            "The list saves reading time, because wrong labels are thick in it; it decides nothing.",
        ),
    ),
    Question(
        "Which of these can no program write into a data card?",
        ("The number of rows of each class.", "What the rows leave out.", "The hash of the test set."),
        1,
        (
            "That is counted, and should be, so that the card never disagrees with the rows.",
            "A program counts what is there. What real messages have and these lack is known only to who knows the world they come from.",
            "That is computed from the file; it shows whether two people speak of the same rows.",
        ),
    ),
)
