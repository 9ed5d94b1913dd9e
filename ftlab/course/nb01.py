"""Exercises and quiz of notebook 01."""

import math
from typing import Any

from ftlab.course.exercise import Exercise, OpenTask, Question
from ftlab.course.replay import stored

TEXTS = {
    "manual": "Returns the number of samples in each class of the array.",
    "german": "Gestern regnete es, und niemand ging ohne Schirm hinaus.",
    "digits": "4071 9926 3385 6104 2957 8813 7260 1549 6638 9302 4417",
}
_RUNS = {
    "A": "trained on 4.9, 4.1, 3.6; held out 5.0, 4.2, 3.8",
    "B": "trained on 4.0, 2.1, 0.6; held out 4.4, 4.9, 5.8",
    "C": "trained on 6.2, 8.9, 7.7; held out 6.3, 9.1, 7.6",
}
_STATES = {"A": "still learning", "B": "learnt by heart", "C": "steps too large"}
_FAIR = {"P": False, "Q": True, "R": False}


def _dearest(choice: Any) -> str:
    if choice not in TEXTS:
        return f"expected one of {', '.join(TEXTS)}, found {choice!r}"
    from ftlab.models import load_model

    tokenizer = load_model("tiny-pretrained", progress=False).tokenizer
    price = {name: len(tokenizer(text)["input_ids"]) / len(text.encode()) for name, text in TEXTS.items()}
    most = max(price, key=price.__getitem__)
    if choice == most:
        return ""
    return f"{choice} takes {price[choice]:.2f} tokens a byte, and another text takes more; which pairs were rare where it was trained?"


def _bits_per_byte(function: Any) -> str:
    if not callable(function):
        return "expected a function"
    given = function(2.0, 30, 80)
    if given is None or given is ...:
        return "not started"
    right = 2.0 * 30 / math.log(2) / 80
    if math.isclose(given, right, rel_tol=1e-6) and math.isclose(function(1.0, 10, 40), 0.25 / math.log(2), rel_tol=1e-6):
        return ""
    slips = {
        2.0 * 30 / 80: "these are nats a byte; a nat is more than a bit, so divide by the logarithm of 2",
        2.0 / math.log(2): "these are bits a token; how many tokens were there, and over how many bytes do they spread?",
        2.0 * 30 * math.log(2) / 80: "a nat is more than a bit: divide by log(2) where you multiply",
        2.0 / math.log(2) / 80: "the loss is a mean over tokens; the whole text cost as many times that as it has tokens",
    }
    slip = next((told for value, told in slips.items() if math.isclose(given, value, rel_tol=1e-6)), "")
    return slip or f"for a mean loss of 2 nats, 30 tokens and 80 bytes expected {right:.4f}, found {given}"


def _states(named: Any) -> str:
    if not isinstance(named, dict) or set(named) != set(_STATES):
        return f"expected a dict with the keys {', '.join(_STATES)}"
    if not any(named.values()):
        return "not started"
    about = {
        "A": "both losses fall and stay together, so there is more to be had from going on",
        "B": "what it trains on is nearly free and what it has not seen gets dearer: it repeats, it does not foresee",
        "C": "the loss on its own text goes up; nothing can be learnt by heart that way, it is thrown about",
    }
    wrong = [name for name, state in _STATES.items() if named[name] != state]
    return f"{wrong[0]}: {about[wrong[0]]}" if wrong else ""


def _statements(n: Any) -> str:
    recall = stored("pretrained", say=False)["training"]["curve"][-1]["recall"]["by_exposure"]
    if str(n) not in recall:
        return f"expected one of {', '.join(recall)}, found {n!r}"
    sure = [int(times) for times, s in recall.items() if s["low"] > 0.5]
    s = recall[str(n)]
    if s["low"] <= 0.5:
        return f"stated {n} times, {s['k']} of {s['n']} are recalled; the interval begins at {100 * s['low']:.0f} %, so not beyond doubt"
    return "" if n == min(sure) else f"stated {n} times is enough, but so is {min(sure)}; find the fewest"


def _fair(told: Any) -> str:
    if not isinstance(told, dict) or set(told) != set(_FAIR):
        return f"expected a dict with the keys {', '.join(_FAIR)}"
    if all(value is None for value in told.values()):
        return "not started"
    about = {
        "P": "the second model also read ten times as many tokens; who won, the text or the training time?",
        "Q": "equal tokens, the same held-out text, and the arms differ in what they are named for: nothing is wrong here",
        "R": "neither text was met twice, so the smaller one never ran out; the arms do not differ in what is asked about",
    }
    wrong = [name for name, fair in _FAIR.items() if told[name] is not fair]
    return f"{wrong[0]}: {about[wrong[0]]}" if wrong else ""


def _days(function: Any) -> str:
    if not callable(function):
        return "expected a function"
    given = function(1e9, 2e10, 4e14)
    if given is None or given is ...:
        return "not started"
    right = 6 * 1e9 * 2e10 / 4e14 / 86_400
    if math.isclose(given, right, rel_tol=1e-6) and math.isclose(function(7e9, 1e12, 1e17), 42e21 / 1e17 / 86_400, rel_tol=1e-6):
        return ""
    slips = {
        right / 6: "each parameter costs six operations a token, forward and backward together",
        right / 3: "two operations are the way forward alone; the way back takes twice as many again",
        right * 86_400: "these are seconds; a day has 86,400 of them",
        right * 24: "these are hours; a day has 24 of them",
    }
    slip = next((told for value, told in slips.items() if math.isclose(given, value, rel_tol=1e-6)), "")
    return slip or f"for 1e9 parameters, 2e10 tokens and 4e14 operations a second expected {right:.3f} days, found {given}"


def _labels(function: Any) -> str:
    if not callable(function):
        return "expected a function"
    given = function([5, 6, 7, 8, 9], 3)
    if given is None or given is ...:
        return "not started"
    given = list(given)
    slips = {
        (-100, -100, -100, 8, 9): "the answer's tokens are asked, but a place too late: position t says the token at t + 1",
        (6, 7, 8, 9, -100): "the prompt is asked too: that is pretraining; in tuning only the answer is",
        (5, 6, 7, -100, -100): "the prompt is asked and the answer is not; it is the other way round",
        (-100, -100, -100, 9, -100): "the first token of the answer is missing: the last token of the prompt has to say it",
    }
    if tuple(given) in slips:
        return slips[tuple(given)]
    if given != [-100, -100, 8, 9, -100]:
        return f"for the ids 5 6 7 8 9 with a prompt of three expected [-100, -100, 8, 9, -100], found {given}"
    return "" if list(function([1, 2, 3], 1)) == [2, 3, -100] else "with a prompt of one token, every token after it is asked"


EXERCISES = (
    Exercise(
        id="01.1",
        title="Which text is dearest?",
        level=1,
        minutes=4,
        text="Three texts of nearly the same length: "
        + "; ".join(f"*{name}*: `{text}`" for name, text in TEXTS.items())
        + ". Which takes "
        "the most tokens a byte with a tokenizer made from English manuals?",
        stub='from ftlab import load_model\n\ntokenizer = load_model("tiny-pretrained").tokenizer  # tokenizer.tokenize("a text") gives its pieces\n'
        'dearest = ""  # "manual", "german" or "digits"',
        name="dearest",
        judge=_dearest,
        hints=(
            "A piece exists only if its parts stood side by side often in the tokenizer's own text.",
            "Words of another language still share letter pairs with English ones.",
        ),
        solution='dearest = "digits"',
        wrong=(
            ('dearest = "german"', "tokens a byte"),
            ('dearest = "manual"', "tokens a byte"),
            ('dearest = "code"', "expected one of"),
        ),
        done="What a tokenizer has not met is cut small: other languages, numbers and identifiers cost more and leave less room.",
    ),
    Exercise(
        id="01.2",
        title="Bits a byte",
        level=3,
        minutes=6,
        text="Write the function: from a mean loss in nats per token, the number of tokens and the bytes of the text.",
        stub="from math import log\n\n\ndef bits_per_byte(loss, tokens, size):\n    ...  # your line here",
        name="bits_per_byte",
        judge=_bits_per_byte,
        hints=(
            "How many nats did the whole text take? The loss is a mean over its tokens.",
            "A nat is 1 / log(2) bits.",
        ),
        solution="from math import log\n\n\ndef bits_per_byte(loss, tokens, size):\n    return loss * tokens / log(2) / size",
        wrong=(
            ("def bits_per_byte(loss, tokens, size):\n    return loss * tokens / size", "nats a byte"),
            ("from math import log\ndef bits_per_byte(loss, tokens, size):\n    return loss / log(2)", "bits a token"),
            ("bits_per_byte = 1.2", "expected a function"),
        ),
        done="A model with longer tokens has a higher loss per token on the same text, and is not worse for it. Bits a byte tell.",
    ),
    Exercise(
        id="01.3",
        title="Read three curves",
        level=1,
        minutes=4,
        text="Losses at the beginning, in the middle and at the end. "
        + " ".join(f"**{name}**: {told}." for name, told in _RUNS.items())
        + " Name each: `still learning`, `learnt by heart` or `steps too large`.",
        stub='state = {"A": "", "B": "", "C": ""}',
        name="state",
        judge=_states,
        hints=(
            "Look at the held-out loss first, then ask whether the other one moves with it.",
            "Each of the three names is used once.",
        ),
        solution='state = {"A": "still learning", "B": "learnt by heart", "C": "steps too large"}',
        wrong=(
            ('state = {"A": "still learning", "B": "steps too large", "C": "learnt by heart"}', "B:"),
            ('state = {"A": "learnt by heart", "B": "still learning", "C": "steps too large"}', "A:"),
        ),
        done="Two losses tell three stories; one loss cannot.",
    ),
    Exercise(
        id="01.4",
        title="Recalled beyond doubt",
        level=2,
        minutes=5,
        text="From how many statements on does the stored model recall more than half of the facts, so that the whole 95 % interval lies above "
        "one half?",
        stub="from ftlab.course import stored\n\n"
        'by_exposure = stored("pretrained", say=False)["training"]["curve"][-1]["recall"]["by_exposure"]\n'
        "statements = None  # a number of statements",
        name="statements",
        judge=_statements,
        hints=(
            "Each entry has <code>k</code>, <code>n</code>, <code>share</code>, <code>low</code> and <code>high</code>.",
            "A share above one half is not enough: the lower end of its interval has to be above it.",
        ),
        solution="from ftlab.course import stored\n\n"
        'by_exposure = stored("pretrained", say=False)["training"]["curve"][-1]["recall"]["by_exposure"]\n'
        'statements = min(int(n) for n, s in by_exposure.items() if s["low"] > 0.5)',
        wrong=(
            ("statements = 1", "not beyond doubt"),
            ("statements = 50", "expected one of"),
            ('statements = "often"', "expected one of"),
        ),
        done="So a fact that a text states a few times is not in a small model, however well it writes; notebook 03 looks such facts up.",
    ),
    Exercise(
        id="01.5",
        title="Is it a fair comparison?",
        level=2,
        minutes=5,
        text="Each time two models of one size are compared on held-out text. **P**: one pass over 1 MB against one pass over 10 MB. "
        "**Q**: ten passes over 1 MB against one pass over 10 MB. **R**: half a pass over 1 MB against a twentieth of a pass over 10 MB. "
        "Which tells what the *amount* of text does at equal compute?",
        stub='fair = {"P": None, "Q": None, "R": None}  # True or False each',
        name="fair",
        judge=_fair,
        hints=(
            "Work out how many megabytes each arm reads in all.",
            "Then ask whether any arm meets anything twice.",
        ),
        solution='fair = {"P": False, "Q": True, "R": False}',
        wrong=(
            ('fair = {"P": True, "Q": True, "R": False}', "P:"),
            ('fair = {"P": False, "Q": True, "R": True}', "R:"),
            ('fair = {"P": False, "Q": False, "R": False}', "Q:"),
        ),
        done="Equal compute is the first condition, a real difference in the text the second; a verdict without them is noise with a name.",
    ),
    Exercise(
        id="01.6",
        title="Write the bill",
        level=3,
        minutes=6,
        text="Write a function that gives the days of a training, from parameters, tokens and the operations a second that a machine reaches.",
        stub="def days(parameters, tokens, per_second):\n    ...  # your line here",
        name="days",
        judge=_days,
        hints=("6ND operations in all.", "Divide by the speed: seconds. A day has 24 × 3600 of them."),
        solution="def days(parameters, tokens, per_second):\n    return 6 * parameters * tokens / per_second / 86_400",
        wrong=(
            ("def days(parameters, tokens, per_second):\n    return parameters * tokens / per_second / 86_400", "six operations"),
            ("def days(parameters, tokens, per_second):\n    return 6 * parameters * tokens / per_second", "seconds"),
            ("def days(parameters, tokens, per_second):\n    return 2 * parameters * tokens / per_second / 86_400", "way back"),
        ),
        done="Put in a model of yours, its tokens and a GPU's speed: you will see why nobody pretrains on a whim.",
    ),
    Exercise(
        id="01.7",
        title="Write the labels of a row",
        level=3,
        minutes=8,
        text="Write a function that gives the labels of a row for tuning, one for each position: position t has to say the token at t + 1, if "
        "that one belongs to the answer; everywhere else stands -100, which the loss leaves out.",
        stub="def labels(ids, prompt_length):\n    ...  # your lines here",
        name="labels",
        judge=_labels,
        hints=(
            "Start with -100 everywhere. The first position that is asked is the last one of the prompt.",
            "The last position has nothing to say.",
        ),
        solution="def labels(ids, prompt_length):\n"
        "    following = [*ids[1:], -100]\n"
        "    return [-100] * (prompt_length - 1) + following[prompt_length - 1 :]",
        wrong=(
            ("def labels(ids, prompt_length):\n    return [-100] * prompt_length + list(ids[prompt_length:])", "a place too late"),
            ("def labels(ids, prompt_length):\n    return [*ids[1:], -100]", "that is pretraining"),
            (
                "def labels(ids, prompt_length):\n    return [-100] * prompt_length + [*ids[prompt_length + 1 :], -100]",
                "first token of the answer",
            ),
        ),
        done="With a prompt of one token this is pretraining. That is the whole difference in code; the rest is in the data.",
    ),
)

OPEN = (
    OpenTask(
        id="01.1",
        title="A text of your own",
        minutes=10,
        text="Which running text would you gather for a small model of your own field? Say where it comes from, what you would leave out, and how "
        "you would find out whether the model has learnt from it.",
        rubric=(
            "It names who owns the text and whether its licence allows training, and passing a model on.",
            "Repetitions, private data and what is no prose are left out, and counted by reason.",
            "A part is held out before anything is looked at, by document and not by line.",
            "There is a positive control: something in the text that a model which learns must be able to say.",
            "It says what the text will not give: format, policy, facts stated once.",
        ),
    ),
)

QUIZ = (
    Question(
        "The loss on held-out text falls from the first to the last measurement. What is shown?",
        (
            "The model knows what the text says.",
            "It foresees text of this kind better than before.",
            "It will answer questions about the text.",
        ),
        1,
        (
            "The stored run's loss fell for half of its length while it knew hardly any of the planted facts.",
            "That is what the loss measures. What else it can do has to be asked apart.",
            "Nobody trained it to answer; it goes on as its text went on.",
        ),
    ),
    Question(
        "Two models have different tokenizers. Which number compares them on the same text?",
        ("Loss per token.", "Perplexity.", "Bits a byte."),
        2,
        (
            "The one with longer tokens has more to say per token, and looks worse.",
            "It is e to the loss per token, so it has the same fault.",
            "Both are measured against the bytes of the text, which are the same for both.",
        ),
    ),
    Question(
        "A model says of somebody who never was in its text that she lives in a certain city. Why?",
        (
            "Some part of its text must have said so.",
            "A city is the likeliest thing to come there, and it always has to say something.",
            "Its tokenizer is too small.",
        ),
        1,
        (
            "Her name was never there. It is an answer by form.",
            "The form was stated very often, the fact never, and the loss asked for no doubt.",
            "The tokenizer only cuts; the chances are the model's.",
        ),
    ),
    Question(
        "An arm with a small text and one with a large text read equally many tokens; no block is met twice. The study says “shown”. What "
        "do you conclude?",
        (
            "More text is better.",
            "Nothing about the amount: the arms do not differ in it, so the difference is noise.",
            "The small text must have been of lower quality.",
        ),
        1,
        (
            "It may be, but this cannot show it: the small text never ran out.",
            "A verdict is worth what its comparison is worth, and few seeds can agree by chance.",
            "It was drawn evenly from the same text.",
        ),
    ),
    Question(
        "What is different in the code of the loss between pretraining and tuning?",
        (
            "Tuning compares whole answers.",
            "Nothing but which positions carry a label.",
            "Pretraining has no labels.",
        ),
        1,
        (
            "It too goes token by token; that is why a low loss is not yet a right answer.",
            "The same cross-entropy; the data, the mask, the start and the size of the steps differ.",
            "The text itself is the label, one place further on.",
        ),
    ),
)
