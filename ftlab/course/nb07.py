"""Exercises and quiz of notebook 07."""

from typing import Any

from ftlab.course.exercise import Exercise, OpenTask, Question
from ftlab.train.settings import FREE

_PARTS = {
    "template": (False, "the template is written around the chat by a program, never by the model"),
    "system": (
        False,
        "the prompt is given at use as well; learning to write it would spend the training on something nobody asks for",
    ),
    "user": (False, "nobody wants the model to write the customer's messages"),
    "answer": (True, "the answer is what the model is to write"),
    "end": (True, "a model that is never asked for the end token goes on for ever"),
}
_SETTINGS = {
    "learning_rate": "it is the size of each step",
    "micro_tokens": "micro-batches add up to the same gradient, as section 4 shows",
    "seed": "it decides which rows meet in a step, so each path is another one",
    "eval_batch_size": "prompts that are answered together get the same answers as one by one",
    "batch_size": "it decides how many rows make one step, and so how many steps there are",
}
_PIECES = (
    ([(6.0, 3), (6.0, 1)], 3.0),
    ([(2.0, 4)], 0.5),
    ([(1.0, 1), (3.0, 1), (8.0, 6)], 1.5),
)
_CURVE = ((1, 0.31, 0.62), (2, 0.24, 0.74), (3, 0.22, 0.79), (4, 0.25, 0.81))  # pass, validation loss, strict share of 203 rows
_STOPS = (((0.5, 0.7, 0.6, 0.65, 0.9), 2, (4, 2)), ((0.5, 0.6, 0.7), 2, (3, 3)), ((0.7, 0.7, 0.7), 2, (3, 1)))
_BILLIONS = 1.7


def _masked(carries: Any) -> str:
    if not isinstance(carries, dict) or set(carries) != set(_PARTS):
        return f"expected a dict with the keys {', '.join(_PARTS)}"
    if all(value is None for value in carries.values()):
        return "not started"
    for part, (right, why) in _PARTS.items():
        if carries[part] is not right:
            return f"{part}: {why}"
    return ""


def _sorted(effects: Any) -> str:
    if not isinstance(effects, dict) or set(effects) != set(_SETTINGS):
        return f"expected a dict with the keys {', '.join(_SETTINGS)}"
    if not any(effects.values()):
        return "not started"
    for name, why in _SETTINGS.items():
        if effects[name] != ("memory" if name in FREE else "result"):
            return f"{name}: {why}"
    return ""


def _step_loss(function: Any) -> str:
    if not callable(function):
        return f"expected a function of pieces, found a {type(function).__name__}"
    found = [function(list(pieces)) for pieces, _ in _PIECES]
    if all(value is None for value in found):
        return "not started"
    for (pieces, right), value in zip(_PIECES, found, strict=True):
        if value is not None and abs(value - right) < 1e-9:
            continue
        if value == sum(total / n for total, n in pieces) / len(pieces):
            return f"{value} for {pieces}: that is the mean of the pieces' means, in which a token of a small piece counts for more"
        if value == sum(total for total, _ in pieces) / len(pieces):
            return f"{value} for {pieces}: divide by the tokens of all pieces, not by how many pieces there are"
        return f"expected {right} for {pieces}, found {value}"
    return ""


def _chosen(answer: Any) -> str:
    keys = {"by_loss", "by_score", "score_differs"}
    if not isinstance(answer, dict) or set(answer) != keys:
        return f"expected a dict with the keys {', '.join(sorted(keys))}"
    if not any(answer.values()):
        return "not started"
    if answer["by_loss"] != 3:
        return "by_loss: a loss is better when it is lower"
    if answer["by_score"] != 4:
        return "by_score: a strict score is better when it is higher, whatever the loss does"
    if answer["score_differs"] != "cannot tell":
        return (
            "score_differs: two shares of 203 rows that are two points apart have intervals that overlap almost wholly; which rows each "
            "pass has right would be needed for a paired test"
        )
    return ""


def _stopping(function: Any) -> str:
    if not callable(function):
        return f"expected a function of scores and patience, found a {type(function).__name__}"
    found = [function(list(scores), patience) for scores, patience, _ in _STOPS]
    if all(value is None for value in found):
        return "not started"
    for (scores, patience, right), value in zip(_STOPS, found, strict=True):
        if not isinstance(value, tuple | list) or len(value) != 2:
            return f"expected (passes made, pass kept), found {value!r}"
        said = f"{tuple(value)} for {list(scores)} with patience {patience}: "
        if tuple(value) == right:
            continue
        if value[0] == len(scores) > right[0]:
            return f"{said}the training had stopped before, so nobody knows the scores after that"
        if 0 < value[1] <= len(scores) and value[1] != right[1] and scores[value[1] - 1] == scores[right[1] - 1]:
            return f"{said}of equal scores the earlier pass is kept"
        if value[1] == value[0] != right[1]:
            return f"{said}the last pass is not the best; what was trained while waiting is thrown away"
        return f"{said}expected {right}; passes count from 1"
    return ""


def _memory(gb: Any) -> str:
    if not isinstance(gb, int | float):
        return f"expected a number of GB, found {gb!r}"
    told = {4: "the weights alone", 8: "weights and gradients", 12: "three of the four numbers"}
    for bytes_each, what in told.items():
        if abs(gb - _BILLIONS * bytes_each) < 0.1:
            return f"{gb} GB hold {what}; each trained weight needs itself, its gradient and two means of the optimizer"
    if abs(gb - _BILLIONS * 16) < 0.1:
        return ""
    return f"{gb} GB: count four numbers for each of {_BILLIONS} thousand million weights, and four bytes for each number"


def _function(body: str, head: str) -> str:
    return f"def {head}:\n    {body}"


_LOSS = "step_loss(pieces)"
_STOP = "stop(scores, patience)"
_LOOP = (
    "best = 1\n    for made in range(1, len(scores) + 1):\n        if scores[made - 1] {sign} scores[best - 1]:\n            best = made\n"
    "        if made - best >= patience:\n            return {result}\n    return len(scores), best"
)


def _loop(sign: str = ">", result: str = "made, best") -> str:
    return _function(_LOOP.format(sign=sign, result=result), _STOP)


def _dict(name: str, **values: Any) -> str:
    return f"{name} = {values!r}"


_right_parts = {part: right for part, (right, _) in _PARTS.items()}
_right_effects = {name: "memory" if name in FREE else "result" for name in _SETTINGS}
_curve_lines = "\n".join(f"print('pass {p}: validation loss {loss}, strict {strict}')" for p, loss, strict in _CURVE)

EXERCISES = (
    Exercise(
        id="07.1",
        title="Where is the loss?",
        level=1,
        minutes=3,
        text="Say for each part of a row whether its tokens carry loss. Think of what the model has to write when it is used.",
        stub=_dict("carries_loss", **dict.fromkeys(_PARTS)) + "  # True or False each",
        name="carries_loss",
        judge=_masked,
        hints=("Three parts are there before the model begins to write.", "The end token is written by the model, too."),
        solution=_dict("carries_loss", **_right_parts),
        wrong=(
            (_dict("carries_loss", **_right_parts | {"end": False}), "goes on for ever"),
            (_dict("carries_loss", **_right_parts | {"user": True}), "customer's messages"),
            ("carries_loss = True", "expected a dict"),
        ),
        done="Whenever a tuned model never stops, look first whether the end token carries loss.",
    ),
    Exercise(
        id="07.2",
        title="What may be changed in the middle of a run?",
        level=2,
        minutes=5,
        text='Some settings change what comes out (`"result"`), others only memory and time (`"memory"`). A run may go on with other values '
        "of the second kind. Sort these five.",
        stub=_dict("effects", **dict.fromkeys(_SETTINGS, "")),
        name="effects",
        judge=_sorted,
        hints=(
            "Does it change which numbers are computed, or only how many of them at the same time?",
            "Two of the five are of the kind <code>memory</code>.",
        ),
        solution=_dict("effects", **_right_effects),
        wrong=(
            (_dict("effects", **_right_effects | {"batch_size": "memory"}), "batch_size:"),
            (_dict("effects", **_right_effects | {"micro_tokens": "result"}), "micro_tokens:"),
            (_dict("effects", **_right_effects | {"seed": "memory"}), "seed:"),
        ),
        done="A checkpoint refuses to go on with another value of the first kind, and does not mind the second.",
    ),
    Exercise(
        id="07.3",
        title="The loss of a step",
        level=3,
        minutes=8,
        text="Write the function that gives the mean loss per token of a whole step, from its micro-batches: a list of "
        "(sum of the losses, number of tokens).",
        stub=_function('"""Mean loss of a step from [(sum of losses, number of tokens)]."""\n    ...', _LOSS),
        name="step_loss",
        judge=_step_loss,
        hints=("Which sums do you need before you divide?", "All losses together, divided by all tokens together."),
        solution=_function("return sum(total for total, _ in pieces) / sum(n for _, n in pieces)", _LOSS),
        wrong=(
            (_function("return sum(total / n for total, n in pieces) / len(pieces)", _LOSS), "mean of the pieces' means"),
            (_function("return sum(total for total, _ in pieces) / len(pieces)", _LOSS), "how many pieces"),
            (_function("return 3.0", _LOSS), "expected 0.5"),
        ),
        done="Widely used trainers had this wrong for years: with pieces of unlike size, the mean of means is another training.",
    ),
    Exercise(
        id="07.4",
        title="Choose a pass",
        level=2,
        minutes=5,
        text="Four passes, measured on 203 validation rows. Which pass would the loss keep, which the strict score, and do the strict scores "
        'of these two differ by more than chance (`"yes"`, `"no"` or `"cannot tell"`)?',
        stub=f'{_curve_lines}\nanswer = {{"by_loss": 0, "by_score": 0, "score_differs": ""}}',
        name="answer",
        judge=_chosen,
        hints=(
            "Lower is better for the one, higher for the other.",
            "Try <code>wilson_interval(round(0.79 * 203), 203)</code> from ftlab, and the same for 0.81.",
        ),
        solution=_dict("answer", by_loss=3, by_score=4, score_differs="cannot tell"),
        wrong=(
            (_dict("answer", by_loss=3, by_score=3, score_differs="cannot tell"), "by_score:"),
            (_dict("answer", by_loss=3, by_score=4, score_differs="yes"), "overlap"),
            (_dict("answer", by_loss=1, by_score=4, score_differs="yes"), "by_loss:"),
        ),
        done="Where the score cannot tell two passes apart, either may be kept; say which rule chose, before you look.",
    ),
    Exercise(
        id="07.5",
        title="Stop in time",
        level=3,
        minutes=10,
        text="Write the rule of `patience`: after each pass, stop if the best score so far is `patience` passes old. Give (passes made, pass "
        "kept). Passes count from 1; higher is better; of equal scores the earlier pass is the best.",
        stub=_function('"""(passes made, pass kept) for the scores of pass 1, 2, … as far as they are needed."""\n    ...', _STOP),
        name="stop",
        judge=_stopping,
        hints=(
            "Go through the passes one by one, and remember the best one so far.",
            "The difference of two pass numbers decides: this one, and the best one so far.",
        ),
        solution=_loop(),
        wrong=(
            (_loop(result="made, made"), "thrown away"),
            (_function("return len(scores), scores.index(max(scores)) + 1", _STOP), "nobody knows"),
            (_loop(sign=">="), "earlier pass is kept"),
        ),
        done="Note what it cannot do: the first case would have got better in the pass after the stop. Patience buys time, not certainty.",
    ),
    Exercise(
        id="07.6",
        title="Does it fit?",
        level=1,
        minutes=3,
        text="How many GB (10⁹ bytes) do weights, gradients and the optimizer take if every weight of a model of 1.7 thousand million "
        "parameters is trained in 32 bits, before the first token is computed?",
        stub="gb = 0",
        name="gb",
        judge=lambda gb: "not started" if gb == 0 else _memory(gb),
        hints=("Four numbers for each weight: which?", "Sixteen bytes for each weight."),
        solution="gb = 1.7 * 4 * 4",
        wrong=(("gb = 6.8", "weights alone"), ("gb = 13.6", "two means"), ("gb = 1.7", "four bytes")),
        done="More than many a GPU has. With LoRA the weights are needed once, and the other three numbers for a few per cent of them.",
    ),
)

OPEN = (
    OpenTask(
        id="07.1",
        title="A plan before the start",
        minutes=15,
        text="Write the plan of a training for your own task on one page, before you start it: settings with reasons, what will be measured "
        "after each pass, by which rule a pass is kept, and what would make you stop.",
        rubric=(
            "Each setting that differs from the default has a reason that a measurement on validation rows could refute.",
            "Loss and at least one score of generated answers are measured on rows that are neither trained on nor the frozen test.",
            "The rule that keeps a pass is fixed beforehand, and so is what counts as a difference.",
            "Time and memory are predicted, and the training can be interrupted.",
            "It says how many seeds there will be, or that one seed will prove nothing about a setting.",
        ),
    ),
)

QUIZ = (
    Question(
        "Why do the tokens of the customer's message carry no loss?",
        (
            "The model cannot read them.",
            "The model is never asked to write them.",
            "They are too easy.",
        ),
        1,
        (
            "It reads them, and the answer's tokens depend on them; only nothing is asked of it at these places.",
            "Loss goes to what has to be written: the answer and its end.",
            "They are not: to guess what a customer writes next is harder than to answer.",
        ),
    ),
    Question(
        "The memory runs out. Which setting should you lower first?",
        ("the learning rate", "the tokens computed at once", "the rows of a step"),
        1,
        (
            "It changes the size of a step and not a byte of memory.",
            "Micro-batches change memory and time, and not the gradient.",
            "That would help, but it makes another training; cut the same step into smaller pieces instead.",
        ),
    ),
    Question(
        "Training loss falls, held-out loss rises, the strict score stays. What now?",
        (
            "Train on: the training loss still falls.",
            "The score decides the pass; the gap says that more passes will hardly help and other rows would.",
            "The model is broken: throw all of it away.",
        ),
        1,
        (
            "A falling training loss by itself only says that the rows are being learnt by heart.",
            "Loss warns, the score chooses, and the remedy for overfitting is more different rows.",
            "Its answers are as good as before; it is only too sure of the wrong ones.",
        ),
    ),
    Question(
        "A short trial run found a good learning rate. For a run ten times as long you should …",
        (
            "take the same without a second look.",
            "expect that it may be too high, and try again near it.",
            "take ten times as much.",
        ),
        1,
        (
            "It may do, but short runs bear higher rates than long ones.",
            "What suits a short run is a starting point for a long one, not its answer.",
            "More steps of the same size already go further; larger ones on top would throw the weights about.",
        ),
    ),
    Question(
        "A new setting has one training with a strict score two points above the old one's. What follows?",
        (
            "It is better.",
            "Nothing yet: another seed of the same setting may differ by as much.",
            "It is worse, since the seeds differ.",
        ),
        1,
        (
            "Perhaps; one training each cannot tell the setting from the seed.",
            "Train both with several seeds, on the same rows, before you believe two points.",
            "The seed favours neither; it only hides what the setting does.",
        ),
    ),
)
