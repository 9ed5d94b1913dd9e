"""Exercises and quiz of notebook 05."""

import functools
from collections.abc import Sequence
from typing import Any

from ftlab.course.exercise import Exercise, OpenTask, Question
from ftlab.rows import Row
from ftlab.stats import mcnemar_exact, wilson_interval
from ftlab.task import load_task, stratified

_BAR = 1 / 3  # share of rows that hand-written rules have to get right
_ROWS = 300


@functools.cache
def _rule_rows() -> tuple[tuple[Row, ...], frozenset[str]]:
    task = load_task("support_plan")
    return tuple(stratified(task.rows("train"), _ROWS, "intent")), frozenset(task.schema["properties"]["intent"]["enum"])


def _rules_for_intents(intent_of: Any) -> str:
    if not callable(intent_of):
        return f"expected a function of a text, found a {type(intent_of).__name__}"
    rows, intents = _rule_rows()
    found = [intent_of(row.text) for row in rows]
    if all(value is None or value is ... for value in found):
        return "not started"
    if unknown := [(row.text, value) for row, value in zip(rows, found, strict=True) if value not in intents]:
        text, value = unknown[0]
        return f"{value!r} is no intent of the task; it is what you gave for {text[:50]!r}; end with one that fits all the rest"
    if len(set(found)) == 1:
        return f"every message gets {found[0]!r}; that is the floor, not a rule"
    right = sum(row.output["intent"] == value for row, value in zip(rows, found, strict=True))
    if right < _BAR * len(rows):
        missed = next(r for r, value in zip(rows, found, strict=True) if r.output["intent"] != value)
        return f"right on {right} of {len(rows)} training rows; {missed.output['intent']!r} was missed in {missed.text[:60]!r}"
    return ""


_LEVERS = {
    "fence": "constrain or tune",
    "two_questions": "tune",
    "contract_number": "look it up",
    "wrong_sum": "compute in code",
    "claims_deed": "tune and check in code",
}
_WHY = {
    "fence": "form is what a decoder can be held to, and what examples teach first",
    "two_questions": "the model can ask one question, it only does not do so: examples of the habit teach it",
    "contract_number": "the message does not hold it, so no row teaches it; it stands in a database",
    "wrong_sum": "arithmetic with fixed rules is right every time in code and never quite in a model",
    "claims_deed": "examples make it rarer, and only a check keeps the last one from a reader",
}


def _levers(levers: Any) -> str:
    if not isinstance(levers, dict) or set(levers) != set(_LEVERS):
        return f"expected a dict with the keys {', '.join(_LEVERS)}"
    if not any(levers.values()):
        return "not started"
    wrong = [name for name, lever in _LEVERS.items() if levers[name] != lever]
    return f"{wrong[0]}: {_WHY[wrong[0]]}" if wrong else ""


def _border(k: Any) -> str:
    if not isinstance(k, int) or not 0 <= k <= 100:
        return f"expected a whole number of failures from 0 to 100, found {k!r}"
    low = wilson_interval(k, 100)[0]
    if low <= 0.5:
        return f"with {k} of 100 the interval of the share begins at {low:.3f}: it may be half or less"
    if wilson_interval(k - 1, 100)[0] > 0.5:
        return f"{k} are enough, but so are {k - 1}; find the border"
    return ""


def _fewest(m: int) -> int | None:
    return next((k for k in range(m // 2 + 1, m + 1) if _p(k, m) < 0.05), None)


def _p(k: int, m: int) -> float:
    return mcnemar_exact([False] * k + [True] * (m - k), [True] * k + [False] * (m - k))["p"]


def _fewest_wins(fewest_wins: Any) -> str:
    if not callable(fewest_wins):
        return f"expected a function of m, found a {type(fewest_wins).__name__}"
    if fewest_wins(24) in (None, ...):
        return "not started"
    for m in (24, 60, 6, 5):
        found, right = fewest_wins(m), _fewest(m)
        if found == right:
            continue
        if right is None:
            return f"of {m} differing rows not even all are enough (p = {_p(m, m):.3f}), so expected None, found {found!r}"
        if not isinstance(found, int) or not m / 2 <= found <= m:
            return f"for m = {m} expected a number of rows from half of them to all, found {found!r}"
        if found < right:
            return f"for m = {m}: {found} to {m - found} has p = {_p(found, m):.3f}, which is not under 0.05"
        return f"for m = {m}: {found} are enough, but so are {found - 1} (p = {_p(found - 1, m):.3f})"
    return ""


def _piece_share(q: Any) -> str:
    if not isinstance(q, int | float) or not 0 <= q <= 1:
        return f"expected a share from 0 to 1, found {q!r}"
    whole = q**60
    if abs(whole - 0.9) <= 0.005:
        return ""
    return f"with {q:.5f} a piece, {100 * whole:.1f} % of the answers are right from end to end; {'more' if whole < 0.9 else 'less'} is needed"


def _flow(*steps: tuple[str, str, int]) -> list[dict]:
    return [{"before": before, "after": after, "rows": rows} for before, after, rows in steps]


_FLOW = _flow(("format", "pass", 30), ("format", "knowledge", 10), ("pass", "pass", 50), ("pass", "format", 10))


def _share_repaired(share_repaired: Any) -> str:
    if not callable(share_repaired):
        return f"expected a function of a flow, found a {type(share_repaired).__name__}"
    found = share_repaired(_FLOW)
    if found is None or found is ...:
        return "not started"
    told = {
        0.8: "rows that passed before cannot be repaired; leave them out",
        0.3: "divide by the rows that failed before, not by all rows",
    }
    if not isinstance(found, int | float) or abs(found - 0.75) > 1e-6:
        hint = told.get(round(float(found), 6), "count the rows that failed before, and those of them that pass after")
        return f"for 30 repaired, 10 still failing, 50 kept and 10 lost expected 0.75, found {found!r}: {hint}"
    if (none := share_repaired(_flow(("pass", "pass", 5)))) is not None:
        return f"where nothing failed before, nothing could be repaired: expected None, found {none!r}"
    return ""


_RULES = """\
import re

RULES = [
    ("create_account", r"sign (me )?up|open (me )?an account|new account|register|abrir una cuenta|konto (eröffnen|anlegen)|créer un compte"),
    ("reset_password", r"pass ?word|passcode|passwort|kennwort|contraseña|mot de passe|\\\\bpw\\\\b|\\\\bpin\\\\b"),
    ("request_refund", r"refund|money back|charged|reembols|rembours|zurück|devolu"),
    ("get_invoice", r"invoice|receipt|rechnung|beleg|factura|recibo|facture|\\\\bbill\\\\b"),
    ("update_billing", r"card|karte|tarjeta|carte|paypal"),
    ("cancel_account", r"cancel|kündig|résili|delete my|close my|dar de baja|\\\\bend\\\\b"),
    ("contact_human", r"human|person|agent|manager|call me|mensch|persona|quelqu"),
    ("update_profile", r"change|new number|new address|moved|nummer|dirección|adresse|número"),
]


def intent_of(text):
    return next((intent for intent, pattern in RULES if re.search(pattern, text, re.IGNORECASE)), "out_of_scope")""".replace(
    "\\\\", "\\"
)
_FEWEST = """\
from ftlab import mcnemar_exact


def p_value(k, m):
    return mcnemar_exact([False] * k + [True] * (m - k), [True] * k + [False] * (m - k))["p"]


def fewest_wins(m):
    for k in range(m // 2 + 1, m + 1):
        if p_value(k, m) < 0.05:
            return k
    return None"""
_REPAIRED = """\
def share_repaired(flow):
    failed = [step for step in flow if step["before"] != "pass"]
    total = sum(step["rows"] for step in failed)
    return sum(step["rows"] for step in failed if step["after"] == "pass") / total if total else None"""


def _changed(code: str, *pairs: Sequence[str]) -> str:
    for old, new in pairs:
        code = code.replace(old, new)
    return code


EXERCISES = (
    Exercise(
        id="05.1",
        title="Rules against the floor",
        level=3,
        minutes=10,
        text="Write `intent_of(text)`: rules by hand that give each message one of the ten intents. The check tries them on training rows, "
        "which you may read as much as you like, and wants one row in three right.",
        stub='import re\n\n\ndef intent_of(text):\n    ...  # for example: if re.search(r"refund|money back", text, re.IGNORECASE): return …',
        name="intent_of",
        judge=_rules_for_intents,
        hints=(
            "One word or two for each intent, in four languages; the last line returns the intent that fits all the rest.",
            "Order matters: <em>password</em> before <em>card</em>, <em>refund</em> before <em>bill</em>. Print the rows that you miss.",
        ),
        solution=_RULES,
        wrong=(
            ('def intent_of(text):\n    return "out_of_scope"', "that is the floor"),
            ('def intent_of(text):\n    return "refund" if "refund" in text else "other"', "is no intent of the task"),
            ('def intent_of(text):\n    return "get_invoice" if "invoice" in text else "out_of_scope"', "was missed in"),
        ),
        done="Compare the minutes that it took you with the second that the classifier below needs.",
    ),
    Exercise(
        id="05.2",
        title="A lever for each failure",
        level=1,
        minutes=4,
        text="Five failures of five models: the JSON stands in a code *fence*; it asks *two questions* where the rule wants one; it lacks the "
        "*contract number*, which only your database holds; it adds up an invoice to a *wrong sum*; it *claims a deed* it did not do. Choose "
        "for each: `constrain or tune`, `tune`, `look it up`, `compute in code`, `tune and check in code`.",
        stub='levers = {"fence": "", "two_questions": "", "contract_number": "", "wrong_sum": "", "claims_deed": ""}',
        name="levers",
        judge=_levers,
        hints=(
            "Ask of each: could a person who sees only the message and two hundred examples do it?",
            "Each lever is used once.",
        ),
        solution=f"levers = {_LEVERS!r}",
        wrong=(
            (f"levers = {_LEVERS | {'contract_number': 'tune'}!r}", "contract_number: the message does not hold it"),
            (f"levers = {_LEVERS | {'wrong_sum': 'tune', 'two_questions': 'compute in code'}!r}", "two_questions:"),
            (f"levers = {_LEVERS | {'claims_deed': 'tune'}!r}", "claims_deed:"),
        ),
        done="The label of a failure is worth its ink because it decides this.",
    ),
    Exercise(
        id="05.3",
        title="Where the verdict turns",
        level=2,
        minutes=5,
        text="A prompted model fails on 100 rows, by format or by knowledge that the rows do not hold. The verdict says *train* if the 95 % "
        "interval of the teachable share lies above one half. How many of the 100 have to be format failures, at least?",
        stub="from ftlab import wilson_interval\n\nk = None  # failures by format; try wilson_interval(k, 100)",
        name="k",
        judge=_border,
        hints=("Its lower end has to be above 0.5, so half of the failures are too few.", "Between 55 and 65."),
        solution="k = 60",
        wrong=(("k = 51", "half or less"), ("k = 80", "find the border"), ("k = 0.6", "whole number")),
        done="With a tenth of the failures to look at the border would lie far higher: few failures decide little.",
    ),
    Exercise(
        id="05.5",
        title="The fewest wins that count",
        level=3,
        minutes=8,
        text="Two systems differ on m rows. Write `fewest_wins(m)`: how many of these have to go to one side before the exact McNemar test "
        "gives p < 0.05, and `None` where no number does.",
        stub="from ftlab import mcnemar_exact\n\nprint(mcnemar_exact([False, False, True], [True, True, False]))  # 2 to 1\n\n\n"
        "def fewest_wins(m):\n    ...  # your code here",
        name="fewest_wins",
        judge=_fewest_wins,
        hints=(
            "For k wins of m: before = [False] * k + [True] * (m - k), after the other way round.",
            "Try k from just above m / 2 up to m, and return the first with p below 0.05.",
        ),
        solution=_FEWEST,
        wrong=(
            ("def fewest_wins(m):\n    return m // 2 + 1", "which is not under 0.05"),
            (_changed(_FEWEST, ("    return None", "    return m")), "expected None"),
            (_changed(_FEWEST, ("< 0.05", "< 0.01")), "but so are"),
        ),
        done="With five differing rows nothing can be shown, however the five fall.",
    ),
    Exercise(
        id="05.6",
        title="How right must each piece be?",
        level=2,
        minutes=4,
        text="An answer has 60 pieces, and each is right with the same chance q, whatever the others are. Which q makes nine answers in ten "
        "right from end to end?",
        stub="q = None  # a share from 0 to 1",
        name="q",
        judge=_piece_share,
        hints=("All 60 have to be right: multiply the chances.", "q to the power of 60 is 0.9; take the 60th root."),
        solution="q = 0.9 ** (1 / 60)",
        wrong=(("q = 0.9", "more is needed"), ("q = 0.99", "more is needed"), ("q = 90", "from 0 to 1")),
        done="In truth errors are not independent, which makes the sum a guide and no law. And a free text may be worded in many right ways.",
    ),
    Exercise(
        id="05.4",
        title="The share that was repaired",
        level=3,
        minutes=6,
        text="Write `share_repaired(flow)`: of the rows that failed before, the share that passes after. A flow is a list such as "
        '`[{"before": "format", "after": "pass", "rows": 3}, …]`. Where nothing failed before, return `None`.',
        stub="def share_repaired(flow):\n    ...  # your code here",
        name="share_repaired",
        judge=_share_repaired,
        hints=(
            "Keep only the steps whose before is not pass.",
            "Divide the rows that arrive at pass by all rows of these steps; mind the division by zero.",
        ),
        solution=_REPAIRED,
        wrong=(
            (
                "def share_repaired(flow):\n    return sum(s['rows'] for s in flow if s['after'] == 'pass') / sum(s['rows'] for s in flow)",
                "rows that passed before",
            ),
            (_changed(_REPAIRED, ("/ total if total else None", "/ sum(step['rows'] for step in flow)")), "not by all rows"),
            (_changed(_REPAIRED, ("else None", "else 1.0")), "expected None"),
        ),
        done="Call it with results['flow'] and compare with what the verdict had called teachable.",
    ),
)

OPEN = (
    OpenTask(
        id="05.1",
        title="Would you tune?",
        minutes=12,
        text="A housing office sorts letters into 14 kinds and reads off a file number and a date. It has 400 labelled letters. A large model "
        "with a good prompt is wholly right on seven in ten; of its failures half are wrong kinds, a third are file numbers that the letter "
        "does not give, the rest is broken form. Write half a page: what do you measure next, and what do you recommend?",
        rubric=(
            "It names baselines that cost little and are missing: the commonest kind, patterns for date and number, a classifier on the 400 "
            "letters, examples in the prompt.",
            "It says which failures no training repairs (numbers that the letter does not give) and what does (a look-up, or asking).",
            "It says how many rows a test needs, that it is set aside first, and that systems are compared on the same rows.",
            "It says what result would make it recommend *do not train*.",
            "It counts cost: the price of a wrong kind, of labelling, of running the model.",
        ),
    ),
)

QUIZ = (
    Question(
        "A tuned model has the class right on 94 % of the rows. What do you ask first?",
        (
            "Which learning rate was used?",
            "What does the commonest class, and what does a plain classifier reach on the same rows?",
            "How large is the model?",
        ),
        1,
        (
            "It changes how the score came about, not what it is worth.",
            "A share means something only beside what costs nothing and what costs seconds.",
            "Size is a cost; the question is what was bought with it.",
        ),
    ),
    Question(
        "All failures of the untuned model are format failures. What do you know of its knowledge?",
        (
            "It is perfect: there are no knowledge failures.",
            "It is poor.",
            "Nothing: nobody could look above the rung it fell from.",
        ),
        2,
        (
            "Zero counted is not zero there: an answer that cannot be parsed is not judged further.",
            "It may be, but this table does not say so.",
            "Hold its form by constrained decoding, or tune, and the next rung comes to light.",
        ),
    ),
    Question(
        "A prompted model fails by knowledge, and a classifier trained on your rows does no better than always guessing the commonest class.",
        (
            "The rows do not show that they hold the answer: look it up, or get other rows.",
            "Tune, since the classifier is only a small model.",
            "Train the classifier longer.",
        ),
        0,
        (
            "Nothing shows that examples teach it. A look-up or better rows come first.",
            "A larger model may find more, but nothing so far speaks for it, and it may learn to invent.",
            "It is fitted to the end; what is missing is not training time.",
        ),
    ),
    Question(
        "Two systems pass 80 % and 83 % of the same 200 rows, and their intervals overlap. Is the difference chance?",
        ("Yes, the intervals overlap.", "No, three points are a lot.", "It hangs on the rows on which they differ."),
        2,
        (
            "Each interval is about one system alone. On the same rows most of the luck is shared and drops out.",
            "Three points are six rows more; by itself that says little.",
            "Six gained and none lost is hard to get by chance; forty gained and thirty-four lost is easy.",
        ),
    ),
    Question(
        "During training the share of right tokens on validation rows rises from 96 to 97 %. What does it say of the answers?",
        (
            "Three answers in a hundred are wrong.",
            "Little: generate answers, check them, and see.",
            "One answer in a hundred was repaired.",
        ),
        1,
        (
            "It counts tokens, most of them scaffold, each with the right beginning given.",
            "A score is about what is written, from the first token on, without help.",
            "A token is not an answer; one wrong token can spoil an answer or change nothing.",
        ),
    ),
)
