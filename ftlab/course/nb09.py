"""Exercises and quiz of notebook 09."""

import json
from math import exp, isclose, log1p
from typing import Any

from ftlab.course.exercise import Exercise, OpenTask, Question, assigned, chosen
from ftlab.course.pairs import pair_faults
from ftlab.prefer import task_pairs
from ftlab.task import load_task

_REPLY = {"action": "", "confidence": 0.95, "message": ""}
_EMPTY = {"input": "", "chosen": _REPLY, "rejected": _REPLY, "point": 0}
_ASKED = "I bought Lumen Drive 40 days ago and I am a lawyer. Refund me today or you will regret it."
_GOOD = {
    "input": _ASKED,
    "chosen": {
        "action": "escalate", "confidence": 0.95,
        "message": "After 40 days a refund is for a person to decide. Please choose Help → Talk to a person. Your bank decides when money arrives.",
    },
    "rejected": {
        "action": "answer", "confidence": 0.95,
        "message": "After 40 days a refund is still possible for you. Ask under Settings → Billing → Refunds. Your bank decides when money arrives.",
    },
    "point": 1,
}  # fmt: skip
_LESSONS = {
    "a": ("length", "the chosen reply is three times as long, and a ruler would choose it too"),
    "b": ("form", "the rejected reply is no JSON object, which demonstrations teach with less effort"),
    "c": ("tone", "both say and do the same; only one is warmer"),
    "d": ("policy", "like length, like form, like tone: only what is decided differs"),
}
_LESSON_TEXT = {
    "a": "asked for somebody's account; chosen: a refusal of 60 words; rejected: a refusal of 18 words",
    "b": "chosen: the reply as JSON; rejected: the same words without JSON",
    "c": "chosen: 'Sorry to hear it! Look under Billing.'; rejected: 'Look under Billing.'",
    "d": "asked for somebody's account; chosen: a refusal of 20 words; rejected: 21 words that show it",
}
_TRACES = {
    "a": ("learnt", "the chosen reply became likelier and the rejected one less likely"),
    "b": ("displaced", "the margin grew by pushing the rejected reply down, and the chosen one fell with it: what took their place, nobody asked for"),
    "c": ("more fluent", "both rose by about the same, so the model learnt to write such replies and not which one to prefer"),
}  # fmt: skip
_DPO = (  # chosen, rejected, reference chosen, reference rejected, beta
    (-20.0, -30.0, -20.0, -30.0, 0.1),
    (-18.0, -34.0, -20.0, -30.0, 0.1),
    (-25.0, -45.0, -20.0, -30.0, 0.5),
    (-20.0, -24.0, -20.0, -30.0, 1.0),
)
_REPLIES = (  # reply, right action, what it may earn, what it is
    ('{"action": "answer", "message": "Look under Billing."}', "answer", 1.0, "a right answer"),
    ('{"action": "refuse", "message": "No, not here."}', "refuse", 1.0, "a right refusal, which the old reward did not pay"),
    ('{"action": "answer", "message": "Sure, done."}', "refuse", 0.0, "giving in"),
    ('{"action": "refuse", "message": "No, not here."}', "answer", 0.0, "turning down what is allowed"),
    ('{"action": "refuse", "message": "No."} {"action": "answer", "message": "Sure."}', "refuse", 0.0, "two objects at once, which no program can act on"),
    ("\"action\": \"refuse\" \"action\": \"answer\"", "answer", 0.0, "the right words without an object"),
    ('{"action": "answer", "message": "My \\"action\\": \\"refuse\\" is near."}', "refuse", 0.0, "the right words inside the message"),
    ('{"action": "answer", "action": "refuse", "message": "No."}', "refuse", 0.0, "the same key twice, of which a reader may take either"),
)  # fmt: skip
_LEVERS = {
    "keys": ("demonstrations", "what is right can simply be shown, and one right answer says more than a comparison"),
    "push": ("pairs", "the tempting wrong reply is known, and the right one has to win against it"),
    "sum": ("code", "a program computes it, in training and in use"),
    "strict": ("reward", "a program can score any reply, and the model already gets some right"),
}


def _pair(pair: Any) -> str:
    if pair == _EMPTY:
        return "not started"
    if not isinstance(pair, dict):
        return f"expected a dict with input, chosen, rejected and point, found a {type(pair).__name__}"
    task = load_task("support_reply")
    if faults := pair_faults(task, pair, task_pairs(task)):
        return faults[0]
    if pair.get("point") not in range(1, 11):
        return "point: expected the number of the handbook's point that the rejected reply breaks, 1 to 10"
    return ""


def _dpo_loss(function: Any) -> str:
    if not callable(function):
        return f"expected a function of five numbers, found a {type(function).__name__}"
    found = [function(*case) for case in _DPO]
    if all(value is None for value in found):
        return "not started"
    for case, value in zip(_DPO, found, strict=True):
        chosen, rejected, chosen0, rejected0, beta = case
        right = log1p(exp(-beta * ((chosen - chosen0) - (rejected - rejected0))))
        told = f"for {case} expected {right:.3f}, found {value}"
        if not isinstance(value, int | float):
            return told
        if isclose(value, right, abs_tol=1e-6):
            continue
        if isclose(value, log1p(exp(-beta * (chosen - rejected))), abs_tol=1e-6):
            return f"{told}: you left out the reference, so a pair counts as won that the model preferred from the start"
        if isclose(value, -right, abs_tol=1e-6):
            return f"{told}: the logarithm of a probability is negative, so put a minus before it"
        if isclose(value, log1p(exp(beta * ((chosen - chosen0) - (rejected - rejected0)))), abs_tol=1e-6):
            return f"{told}: this loss falls when the rejected reply gains; which of the two gains comes first?"
        return told
    return ""


def _reward(function: Any) -> str:
    if not callable(function):
        return f"expected a function of reply and right, found a {type(function).__name__}"
    found = [function(reply, right) for reply, right, *_ in _REPLIES]
    if all(value is None for value in found):
        return "not started"
    for (reply, _, earned, what), value in zip(_REPLIES, found, strict=True):
        if value is None or float(value) != earned:
            return f"{reply}: that is {what}, so it should earn {earned:g}, found {value}"
    return ""


def _pair_code(pair: dict) -> str:
    return (
        "pair = {\n"
        + "".join(f"    {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n" for key, value in pair.items())
        + "}"
    )


def _spoilt(**changes: Any) -> str:
    return assigned(
        _GOOD | {key: _GOOD[key] | value if isinstance(value, dict) else value for key, value in changes.items()}, "pair"
    )


def _right(cases: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: answer for name, (answer, _) in cases.items()}


_LOSS = "def dpo_loss(chosen, rejected, chosen_before, rejected_before, beta):\n    "
_PAY = "from ftlab.checks import parse_strict\n\n\ndef reward(reply, right):\n    "
_TRACE_TEXT = (
    "print('a: chosen -41 to -35, rejected -44 to -52')\nprint('b: chosen -41 to -58, rejected -44 to -95')\n"
    "print('c: chosen -41 to -22, rejected -44 to -25')"
)

EXERCISES = (
    Exercise(
        id="09.1",
        title="Write a pair",
        level=2,
        minutes=10,
        text="Write one pair for `support_reply`: a message that pushes, a reply that keeps the handbook and one that gives in, like in form and "
        "length. `point` is the point of the handbook that the rejected reply breaks; the handbook stands in "
        "`data/support_reply/specification.md`.",
        stub=_pair_code(_EMPTY),
        name="pair",
        judge=_pair,
        hints=(
            "Write the chosen reply first, then change only what it decides.",
            "Late refunds are for a person to decide (point 1). Each reply to an outright request for money back says that the bank decides when it arrives.",
        ),
        solution=_pair_code(_GOOD),
        wrong=(
            (_spoilt(rejected={"message": "Sure, you get it."}), "that teaches length"),
            (_spoilt(rejected=_GOOD["chosen"]), "say the same"),
            (_spoilt(chosen={"message": "Shall I look? " + _GOOD["chosen"]["message"]}), "so nobody should choose it"),
            (_spoilt(rejected={"action": "approve"}), "teaches form, not policy"),
            (_spoilt(point=0), "the number of the handbook's point"),
        ),
        done="Now let somebody else say which of the two is better without telling which you chose; a pair that people dispute teaches noise.",
    ),
    Exercise(
        id="09.2",
        title="What does the pair teach?",
        level=1,
        minutes=4,
        text="A loss sees only that one reply is preferred, and not why. What will it learn from many pairs like each of these: `length`, `form`, "
        "`tone` or `policy`?",
        stub="\n".join(f"print({f'{name}: {text}'!r})" for name, text in _LESSON_TEXT.items()) + '\nlessons = {"a": "", "b": "", "c": "", "d": ""}',
        name="lessons",
        judge=chosen(_LESSONS),
        hints=("Ask of each: what is the simplest rule that always picks the chosen one?", "Each of the four answers is used once."),
        solution=assigned(_right(_LESSONS), "lessons"),
        wrong=(
            (assigned(_right(_LESSONS) | {"a": "policy"}, "lessons"), "a ruler would choose it too"),
            (assigned(_right(_LESSONS) | {"c": "policy"}, "lessons"), "only one is warmer"),
            (assigned(_right(_LESSONS) | {"d": "courage"}, "lessons"), "expected one of"),
        ),
        done="The simplest rule that separates the two sides is what is learnt first.",
    ),
    Exercise(
        id="09.3",
        title="The loss of a pair",
        level=3,
        minutes=8,
        text="Write the loss of one pair from the log-probabilities of both replies now and before tuning: −log σ(β · margin), without the "
        "supervised term. The margin is what the chosen reply gained more than the rejected one.",
        stub=_LOSS + '"""The preference loss of one pair, in nats."""\n    ...',
        name="dpo_loss",
        judge=_dpo_loss,
        hints=(
            "Two gains: now minus before, for each reply. The margin is the difference of the gains.",
            "−log σ(x) is log(1 + exp(−x)): <code>from math import exp, log</code>.",
        ),
        solution="from math import exp, log\n\n\n" + _LOSS + "margin = (chosen - chosen_before) - (rejected - rejected_before)\n"
        "    return log(1 + exp(-beta * margin))",
        wrong=(
            ("from math import exp, log\n\n\n" + _LOSS + "return log(1 + exp(-beta * (chosen - rejected)))", "left out the reference"),
            (
                "from math import exp, log\n\n\n" + _LOSS
                + "return -log(1 + exp(-beta * ((chosen - chosen_before) - (rejected - rejected_before))))",
                "put a minus before it",
            ),
            (
                "from math import exp, log\n\n\n" + _LOSS
                + "return log(1 + exp(beta * ((chosen - chosen_before) - (rejected - rejected_before))))",
                "falls when the rejected reply gains",
            ),
        ),
        done="Look at the third case: both replies became less likely, and the loss is small all the same.",
    ),
    Exercise(
        id="09.4",
        title="Read a trace",
        level=2,
        minutes=5,
        text="Log-probabilities before and after tuning, in nats. Which run has `learnt` the preference as one would wish, in which was the chosen "
        "reply `displaced`, and which became only `more fluent`?",
        stub=_TRACE_TEXT + '\nruns = {"a": "", "b": "", "c": ""}',
        name="runs",
        judge=chosen(_TRACES),
        hints=("Write down both changes of each run, and the margin.", "Each of the three answers is used once."),
        solution=assigned(_right(_TRACES), "runs"),
        wrong=(
            (assigned(_right(_TRACES) | {"b": "learnt"}, "runs"), "fell with it"),
            (assigned(_right(_TRACES) | {"c": "learnt"}, "runs"), "both rose by about the same"),
            (assigned(_right(_TRACES) | {"a": "good"}, "runs"), "expected one of"),
        ),
        done="Run b has the largest margin and the lowest preference loss of the three: watch the chosen reply itself.",
    ),
    Exercise(
        id="09.5",
        title="Mend the reward",
        level=3,
        minutes=10,
        text='The old reward paid 1 for every reply that holds `"action": "answer"`. Write `reward(reply, right)`: 1 for a reply that is exactly one '
        "JSON object whose action is `right`, else 0. Think of replies that would fool a search for words.",
        stub=_PAY + '"""1.0 or 0.0; parse_strict gives the object, or raises ValueError."""\n    ...',
        name="reward",
        judge=_reward,
        hints=(
            "Do not search in the text: parse it and look at the value.",
            "<code>try: value = parse_strict(reply)</code> and <code>except ValueError: return 0.0</code>.",
        ),
        solution=_PAY + 'try:\n        value = parse_strict(reply)\n    except ValueError:\n        return 0.0\n    return float(value.get("action") == right)',
        wrong=(
            (_PAY + "return float(f'\"action\": \"{right}\"' in reply)", "two objects at once"),
            (_PAY + "return float('\"action\": \"answer\"' in reply)", "did not pay"),
            ("import json\n\n\n" + _PAY + "try:\n        return float(json.loads(reply)['action'] == right)\n    except ValueError:\n        return 0.0", "same key twice"),
        ),
        done="And it can still be fooled: the message itself is not read. What is not checked is free to become anything.",
    ),
    Exercise(
        id="09.6",
        title="Which lever?",
        level=2,
        minutes=5,
        text="Choose `demonstrations`, `pairs`, `reward` or `code`. *keys*: the model puts the keys into another order. *push*: the form is right, but "
        "whoever shouts gets a discount. *sum*: the reply has to name the total of an order. *strict*: a third of the drawn replies pass a test that "
        "a program runs, and nobody can say how the right ones differ.",
        stub='levers = {"keys": "", "push": "", "sum": "", "strict": ""}',
        name="levers",
        judge=chosen(_LEVERS),
        hints=("Is there one right reply that can be shown? A tempting wrong one? A program that judges?", "Each of the four answers is used once."),
        solution=assigned(_right(_LEVERS), "levers"),
        wrong=(
            (assigned(_right(_LEVERS) | {"keys": "pairs"}, "levers"), "simply be shown"),
            (assigned(_right(_LEVERS) | {"sum": "reward"}, "levers"), "a program computes it"),
            (assigned(_right(_LEVERS) | {"strict": "luck"}, "levers"), "expected one of"),
        ),
        done="Preferences come after demonstrations: they choose among replies that the model can already write.",
    ),
)  # fmt: skip

OPEN = (
    OpenTask(
        id="09.1",
        title="Fifty pairs for a policy of yours",
        minutes=15,
        text="Take a rule that your own assistant breaks under pressure. Plan fifty pairs on a page: which pushes, which look-alikes that must not be "
        "refused, who judges them, what is held out, and what you measure before and after.",
        rubric=(
            "Some pairs pull the other way: an allowed request that looks forbidden, where the refusal is the rejected reply.",
            "At least one family of pressure is held out as a whole, so that what is measured is not what was trained.",
            "Chosen and rejected replies are alike in form and length, and somebody else has judged them without knowing which is which.",
            "As opponent there is tuning on the chosen replies alone, at as many tokens.",
            "Form, refusals of what is allowed and general ability are measured too, and it says what would make you stop.",
        ),
    ),
)

QUIZ = (
    Question(
        "Tuning on pairs makes the margin large, and the chosen reply less likely than before. What follows?",
        (
            "All is well: the margin is what counts.",
            "Something else became likelier than both; look at what the model now writes.",
            "The rejected replies were too bad.",
        ),
        1,
        (
            "The margin only compares the two; neither has to be what the model would say.",
            "Probability that leaves both goes to replies that nobody judged. A supervised term holds the chosen one up.",
            "How bad they are says nothing about where the probability went.",
        ),
    ),
    Question(
        "A reward model tells its training pairs apart and fails on held-out ones. A word count does better. What now?",
        (
            "Use it all the same: its training accuracy is high.",
            "It knows the pairs by heart; more pairs or a larger model, and until then the simpler one.",
            "Train it for more passes.",
        ),
        1,
        (
            "Known by heart is not judged: nobody will ask it about these pairs.",
            "Compare with a ruler and with a word count before you believe any reward model.",
            "More passes make it surer of what it knows by heart.",
        ),
    ),
    Question(
        "Best of eight by a reward scores higher than one reply drawn at random, and lower than the oracle. What is the gap to the oracle?",
        (
            "Right replies that were drawn and not chosen.",
            "Messages for which no right reply was drawn.",
            "Chance.",
        ),
        0,
        (
            "The oracle chooses among the same replies, so the gap is the reward's own.",
            "For those the oracle fails too.",
            "Chance is in both, on the same replies.",
        ),
    ),
    Question(
        "All eight drawn replies to a message earn the same reward. What does the model learn from it?",
        (
            "To write all of them more often.",
            "Nothing: only differences within a group teach.",
            "To write something else.",
        ),
        1,
        (
            "Their mean is taken off first, and nothing is left.",
            "So a reward that is always 0 or always 1 teaches nothing, however long one trains.",
            "Nothing pushes it away from them either.",
        ),
    ),
    Question(
        "After preference tuning no forbidden request succeeds any more. What else has to be measured before you ship it?",
        (
            "Nothing, that was the aim.",
            "The training loss.",
            "Refusals of allowed requests, form, and what it could do before.",
        ),
        2,
        (
            "A model that refuses everything has that score too.",
            "It says how well the pairs were learnt, and not what it cost.",
            "The cheapest way to never give in is to never help: look at look-alikes.",
        ),
    ),
)
