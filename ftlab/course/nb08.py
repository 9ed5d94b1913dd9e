"""Exercises and quiz of notebook 08."""

from typing import Any

from ftlab.course.exercise import Exercise, OpenTask, Question, assigned, chosen

_STANDING = {"parses": 200, "schema_valid": 196, "rules_kept": 151, "fields_right": 140, "strict": 138}
_LEVERS = {
    "letters": ("code", "the rule is known while the answer is written, so hold the value to the message"),
    "computed": ("code", "it follows from two other fields, so compute it; a model need not learn sums"),
    "portuguese": ("rows", "the label is right, the guide decides it, code cannot, and training has next to none of the kind"),
    "readers": ("guide", "two careful readers disagree, so more rows would teach both answers: decide first, then label"),
    "price": ("lookup", "the answer is in no message and changes without you; no row can hold it for long"),
}
_DESIGNS = {
    "a": ("no opponent", "any hundred rows help; without as many random ones nothing is known of the choice"),
    "b": ("judged where chosen", "the rows whose failures did the choosing also judge, as in section 5"),
    "c": ("unequal training", "twice the passes is twice the steps, and a gain may come from these"),
    "d": ("none", "as many rows, as many steps, and rows that chose nothing judge"),
}
_CANDIDATES = ([(0.71, 0.60), (0.74, 0.58), (0.69, 0.63), (0.73, 0.59)], [(0.5, 0.5), (0.4, 0.7), (0.6, 0.55)])
_CASES = (  # low, goal, gain, visible
    ((0.91, 0.90, 0.00, 0.06), "reached"),
    ((0.86, 0.90, 0.08, 0.06), "go on"),
    ((0.86, 0.90, 0.02, 0.06), "cannot see"),
    ((0.93, 0.90, 0.08, 0.06), "reached"),
    ((0.86, 0.90, -0.03, 0.06), "cannot see"),
)


def _rung(rung: Any) -> str:
    if rung == "rules_kept":
        return ""
    if rung == "strict":
        return "strict has the fewest rows standing, but nearly all of them fell before; count how many fall between two rungs"
    if rung in _STANDING:
        return f"fewer rows fall at {rung} than at another rung; subtract each rung from the one before it"
    return f"expected one of {', '.join(_STANDING)}, found {rung!r}"


def _honest(function: Any) -> str:
    if not callable(function):
        return f"expected a function of a list of pairs, found a {type(function).__name__}"
    found = [function(list(candidates)) for candidates in _CANDIDATES]
    if all(value is None for value in found):
        return "not started"
    for candidates, value in zip(_CANDIDATES, found, strict=True):
        right = max(candidates)[1]
        if value == right:
            continue
        if value == max(candidates)[0]:
            return "that is the winner's score on validation rows, which is what made it win: give its score on the other rows"
        if value == max(other for _, other in candidates):
            return (
                "that is the best score on the other rows: whoever chooses by them has fitted them too; choose by validation only"
            )
        return f"for {candidates} expected {right}, found {value}"
    return ""


def _requests(n: Any) -> str:
    if not isinstance(n, int | float):
        return f"expected a number of requests, found {n!r}"
    if n == 15_000:
        return ""
    if n == 5_000:
        return "a token in training costs three times one in a request: forwards once, backwards twice"
    return f"expected the tokens of the training, three times each, over the tokens saved per request; found {n}"


def _decision(function: Any) -> str:
    if not callable(function):
        return f"expected a function of low, goal, gain and visible, found a {type(function).__name__}"
    found = [function(*case) for case, _ in _CASES]
    if all(value is None for value in found):
        return "not started"
    for (case, right), value in zip(_CASES, found, strict=True):
        if value == right:
            continue
        told = dict(zip(("low", "goal", "gain", "visible"), case, strict=True))
        if right == "reached":
            return f"{told}: the lower end of the interval is at the goal, so stop, whatever the last gain was; found {value!r}"
        if right == "cannot see":
            return f"{told}: a gain below what the rows can show is no reason to go on, nor is a loss; found {value!r}"
        return f"{told}: the goal is not reached and the gain can be seen; found {value!r}"
    return ""


_RIGHT_LEVERS = {name: lever for name, (lever, _) in _LEVERS.items()}
_RIGHT_DESIGNS = {name: flaw for name, (flaw, _) in _DESIGNS.items()}

EXERCISES = (
    Exercise(
        id="08.1",
        title="Which rung first?",
        level=1,
        minutes=3,
        text="Another model, 203 validation rows. So many rows still stand on each rung. On which rung would a week of work pay most?",
        stub=f'standing = {_STANDING}\nrung = ""  # the name of one rung',
        name="rung",
        judge=_rung,
        hints=(
            "A row that falls at a rung stands on no rung above it.",
            "Subtract each number from the one before it; 203 stand before the first rung.",
        ),
        solution='rung = "rules_kept"',
        wrong=(
            ('rung = "strict"', "fewest rows standing"),
            ('rung = "fields_right"', "subtract each rung"),
            ('rung = "content"', "expected one of"),
        ),
        done="Rules can often be held by code or taught by few rows, and the rungs above may rise with them.",
    ),
    Exercise(
        id="08.2",
        title="Which lever?",
        level=2,
        minutes=6,
        text="Five groups of failures, and for each the lever: `rows`, `code`, `guide` or `lookup`. *letters*: an address of the message is "
        "copied with two letters swapped. *computed*: `missing_info` does not fit intent and entities. *portuguese*: cancellations in "
        "Portuguese are taken for refunds, and training has two such rows. *readers*: two readers give these messages different intents. "
        "*price*: the reply should name today's price of a plan.",
        stub='levers = {"letters": "", "computed": "", "portuguese": "", "readers": "", "price": ""}',
        name="levers",
        judge=chosen(_LEVERS),
        hints=(
            "Ask in this order: is the label right, does the guide decide, can code do it, do the rows hold it?",
            "One lever is used twice, and only one group asks for rows.",
        ),
        solution=assigned(_RIGHT_LEVERS, "levers"),
        wrong=(
            (assigned(_RIGHT_LEVERS | {"letters": "rows"}, "levers"), "hold the value to the message"),
            (assigned(_RIGHT_LEVERS | {"readers": "rows"}, "levers"), "decide first"),
            (assigned(_RIGHT_LEVERS | {"price": "magic"}, "levers"), "expected one of"),
        ),
        done="A list of failures is not a list of rows: here four groups of five ask for something else.",
    ),
    Exercise(
        id="08.3",
        title="What is wrong with the comparison?",
        level=2,
        minutes=5,
        text="Each line claims that aimed rows helped. *a*: the first round passed 60 %, with 100 aimed rows it passes 66 %. *b*: 100 aimed "
        "against 100 random rows, judged on the validation rows whose failures were read. *c*: 100 aimed rows, four passes, against 100 "
        "random rows, two passes, on unread rows. *d*: 100 aimed against 100 random rows, equal passes, on unread rows. The flaw is `no "
        "opponent`, `judged where chosen`, `unequal training` or `none`.",
        stub='flaws = {"a": "", "b": "", "c": "", "d": ""}',
        name="flaws",
        judge=chosen(_DESIGNS),
        hints=(
            "Ask of each: what else differs between the two sides besides how the rows were chosen?",
            "Each of the four answers is used once.",
        ),
        solution=assigned(_RIGHT_DESIGNS, "flaws"),
        wrong=(
            (assigned(_RIGHT_DESIGNS | {"b": "none"}, "flaws"), "did the choosing also judge"),
            (assigned(_RIGHT_DESIGNS | {"a": "judged where chosen"}, "flaws"), "any hundred rows help"),
            (assigned(_RIGHT_DESIGNS | {"c": "none"}, "flaws"), "twice the steps"),
        ),
        done="Even line d is one draw: repeat it, or call it one draw.",
    ),
    Exercise(
        id="08.4",
        title="The honest number",
        level=3,
        minutes=8,
        text="Write `honest(candidates)`. Each candidate is a pair: its share on validation rows and its share on rows that chose nothing. "
        "Choose one as you would, and return the share that belongs into the report.",
        stub='def honest(candidates):\n    """The share to report of the candidate to ship."""\n    ...  # your lines here',
        name="honest",
        judge=_honest,
        hints=(
            "Which of the two numbers may choose, and which may only be reported?",
            "<code>max(candidates, key=lambda pair: pair[0])</code> is the pair that is best on validation rows.",
        ),
        solution="def honest(candidates):\n    best = max(candidates, key=lambda pair: pair[0])\n    return best[1]",
        wrong=(
            ("def honest(candidates):\n    return max(pair[0] for pair in candidates)", "what made it win"),
            ("def honest(candidates):\n    return max(pair[1] for pair in candidates)", "fitted them too"),
            ("def honest(candidates):\n    return candidates[0][1]", "expected 0.58"),
        ),
        done="It is often lower than what another candidate has there, and that is no reason to change the choice.",
    ),
    Exercise(
        id="08.5",
        title="Paid back when?",
        level=2,
        minutes=5,
        text="A training went over 2,400,000 tokens; a token costs about three times as much there as in a request. Each request is now 480 "
        "tokens shorter. Leave aside that a shared prompt can be kept. After how many requests has the training paid for itself?",
        stub="requests = None  # a number",
        name="requests",
        judge=_requests,
        hints=(
            "First express the training in tokens of a request.",
            "3 × 2,400,000 tokens were spent, and each request gives 480 back.",
        ),
        solution="requests = 3 * 2_400_000 / 480",
        wrong=(
            ("requests = 2_400_000 / 480", "three times"),
            ("requests = 480", "expected the tokens of the training"),
            ('requests = "soon"', "a number of requests"),
        ),
        done="Computing is the small part of the bill: the hours for rows, labels and the next round are not in it.",
    ),
    Exercise(
        id="08.6",
        title="Stop or go on",
        level=3,
        minutes=8,
        text="Write `decide(low, goal, gain, visible)`: `reached` if the lower end of the score's interval is at the goal or above, else "
        "`cannot see` if the last round gained less than these rows can show, else `go on`. All four are fractions of 1.",
        stub='def decide(low, goal, gain, visible):\n    """reached, cannot see or go on"""\n    ...  # your lines here',
        name="decide",
        judge=_decision,
        hints=(
            "Two questions, one after the other; the goal comes first.",
            '<code>if low &gt;= goal: return "reached"</code>, and then compare <code>gain</code> with <code>visible</code>.',
        ),
        solution='def decide(low, goal, gain, visible):\n    if low >= goal:\n        return "reached"\n'
        '    return "cannot see" if gain < visible else "go on"',
        wrong=(
            (
                'def decide(low, goal, gain, visible):\n    if gain < visible:\n        return "cannot see"\n'
                '    return "reached" if low >= goal else "go on"',
                "whatever the last gain was",
            ),
            (
                'def decide(low, goal, gain, visible):\n    if low >= goal:\n        return "reached"\n    return "go on" if gain > 0 else "cannot see"',
                "no reason to go on",
            ),
            ('decide = "go on"', "expected a function"),
        ),
        done="Written before the first round, such a rule cannot be bent by the score that comes out.",
    ),
)

OPEN = (
    OpenTask(
        id="08.1",
        title="A second round on paper",
        minutes=15,
        text="Take a task of your own, or `support_plan`. Plan one second round on a page: which failures you act on and by which lever, which "
        "rows are added, what they are compared with, who judges, how often it is repeated, and at which number you stop.",
        rubric=(
            "Some failures are left to code, guide or lookup, with the reason.",
            "The opponent has as many rows and as many steps; only how the rows were chosen differs.",
            "Some rows choose nothing and judge once; it says who keeps them from being read.",
            "The number at which to stop is written down before, and is one that these rows can show.",
            "It says what the round will not tell: other writers, other seeds, what tuning costs elsewhere.",
        ),
    ),
)

QUIZ = (
    Question(
        "None of four hundred answers was unsafe. What may the report say?",
        (
            "The model is safe.",
            "On such messages at most about one answer in a hundred is unsafe.",
            "Nothing, since a share of zero has no interval.",
        ),
        1,
        (
            "Zero seen is not zero: four hundred rows cannot tell it from a few in a thousand.",
            "That is the upper end of the interval, for messages drawn like these.",
            "Wilson's interval works at zero too; its upper end is z² / (n + z²).",
        ),
    ),
    Question(
        "Of eight languages, one is fifteen points below the mean. What do you do first?",
        (
            "Write rows in that language.",
            "Leave the language out of the test set.",
            "Ask how far below the worst of eight would be by luck alone.",
        ),
        2,
        (
            "The worst of eight is always below the mean; first see whether it is further below than luck makes it.",
            "Then its customers are still there, and nobody counts them.",
            "Deal the same failures out anew many times, and compare.",
        ),
    ),
    Question(
        "Rows near each failing validation message were added. Validation rises by twenty points, a set that chose nothing by one. What happened?",
        (
            "The validation set was fitted, and one point is the better estimate of the gain.",
            "The other set is faulty.",
            "A validation row was copied into training.",
        ),
        0,
        (
            "Whatever is chosen by a set looks good on it; the set that chose nothing says what strangers would get.",
            "Harder rows explain a lower level, and not that the gain is missing.",
            "It needs no copy: choosing by the set is enough.",
        ),
    ),
    Question(
        "With copies held to the message, not one value is invented any more. What follows?",
        (
            "That the model has learnt to copy.",
            "That values can still be wrong, and that free decoding shows what was learnt.",
            "That the values are right.",
        ),
        1,
        (
            "It was kept from writing anything else; without the hold the old errors are back.",
            "A wrong piece of the message satisfies the rule too. So report both.",
            "Two addresses in a message are enough to copy the wrong one.",
        ),
    ),
    Question(
        "The desk adds an eleventh intent. The tuned model runs on a one-line prompt. What is needed?",
        (
            "A line in the short prompt.",
            "Nothing, it will be called unclear.",
            "Rows with the new intent, a training, and validation again.",
        ),
        2,
        (
            "The intents are in the weights now; a line about one more meets a model that was trained to know ten.",
            "It will be called whatever is nearest, and the model need not look unsure.",
            "That is the price of the short prompt: what moved into the weights is changed there.",
        ),
    ),
)
