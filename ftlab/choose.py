"""`ftlab choose`: which lever a task calls for, and whether training is one of them.

Answers about the task and the measured failures of its baseline go through one table of rules. A rule speaks about one lever, says what it
would do with it, quotes the number that made it speak, and cites why. Nothing is weighed against anything: "not now" beats "first", "first"
beats "then", "then" beats "beside"; within one verdict the cheaper lever stands first.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftlab.checks import CAUSE_ORDER
from ftlab.errors import DataError
from ftlab.stats import wilson_interval
from ftlab.task import Task

LEVERS = {  # the cheapest first
    "prompt_only": "a better prompt, with examples",
    "rules_in_code": "rules or a plain classifier in code",
    "constrained_decoding": "constrained decoding",
    "retrieval": "retrieval of what the answer needs",
    "sft": "supervised fine-tuning (SFT)",
    "preference_tuning": "preference tuning (DPO)",
    "continued_pretraining": "continued pretraining",
}
TRAINING = ("sft", "preference_tuning", "continued_pretraining")
VERDICTS = ("no", "first", "next", "beside")  # the earlier beats the later
SAYS = {"first": "do first", "next": "do next, and measure again", "beside": "keep beside", "no": "not now"}

FEW_ROWS, ENOUGH_ROWS = 50, 200  # labelled rows: below the first nothing can be told; from the second on SFT beat the prompt here
FEW_PAIRS = 100
MUCH_TEXT = {"unknown": 5.0, "partly": 10.0}  # million tokens of raw text from which continued pretraining is worth a trial
HIGH_VOLUME = 10_000  # requests a day from which a shorter prompt or a smaller model pays for a training
ROWS_AN_HOUR, PAIRS_AN_HOUR = 20, 30  # that one person labels with care: assumed
FLOPS = 1e11  # a second, on two cores: 97 to 154 GFLOP/s were measured


@dataclass(frozen=True)
class Question:
    """One question about a task: what is asked, which answers there are, and why it is asked."""

    name: str
    asks: str
    choices: tuple[str, ...] = ()  # () : a number from 0 on; ("yes", "no"): a truth
    default: Any = None  # None: has to be answered


QUESTIONS = (
    Question(
        "known", "Where does what an answer needs stand: in the message itself, in the judgement of labelled examples, in documents or "
        "data outside, or in what any general model knows?", ("message", "examples", "documents", "general"),
    ),
    Question("changes", "How often does the right answer to the same message change?", ("rarely", "monthly", "daily")),
    Question("form", "Has an answer a fixed form (JSON, one of several classes) or is it free text?", ("fixed", "free")),
    Question(
        "rules", "Could a program compute the right answer: all of it, a part (sums, dates, look-ups), or none?", ("all", "part", "none")
    ),
    Question("must_hold", "Is there something that must hold in every single answer (law, money, safety)?", ("yes", "no")),
    Question("cite", "Has an answer to name its source?", ("yes", "no"), False),
    Question(
        "access", "What may be done with the model: its weights are here, a host lets you tune it, or it can only be prompted?",
        ("weights", "tunable", "prompt"),
    ),
    Question("rows_may_train", "May the labelled rows be trained on (consent, law, contracts)?", ("yes", "no")),
    Question("prompt_tried", "Was a careful prompt with examples measured on labelled rows?", ("yes", "no")),
    Question(
        "judged", "What makes one answer better than another: it is right, or it is preferred among several that are acceptable (tone, "
        "firmness under pressure)?", ("right", "preferred"),
    ),
    Question("language", "Can the model read the language or notation of the messages?", ("known", "partly", "unknown")),
    Question("raw_mtokens", "How much unlabelled text of the domain is there, in million tokens?", (), 0.0),
    Question("rows", "How many labelled training rows are there?"),
    Question("pairs", "How many pairs of a better and a worse answer are there?", (), 0),
    Question("volume", "How many requests come a day?", (), 0),
    Question("good_enough", "Which share of answers has to pass all checks, from 0 to 1?", (), 0.95),
    Question("tuned", "Has the model been tuned on these rows already?", ("yes", "no"), False),
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What was measured before anything is trained; each number may be missing.

    Attributes:
        source: where the numbers come from.
        prompt: (rows that pass all checks, rows) of the best prompt.
        causes: first cause → failing rows of that prompt.
        tfidf: (rows that pass, rows) of the plain classifier.
        teaches: whether the plain classifier beats the prompt at the class: then the rows hold what the model lacks. None: not known.
        tuned: (rows that pass, rows) of a model tuned already.
        minutes: of its training.
    """

    source: str = "nothing was measured"
    prompt: tuple[int, int] | None = None
    causes: dict[str, int] | None = None
    tfidf: tuple[int, int] | None = None
    teaches: bool | None = None
    tuned: tuple[int, int] | None = None
    minutes: float | None = None


class Facts:
    """Answers and measurements, and what follows from them. Every answer is an attribute by its question's name."""

    def __init__(self, answers: dict[str, Any], measured: Measured):
        self.answers, self.measured = answers, measured

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["answers"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def may_train(self) -> bool:
        return self.access != "prompt" and self.rows_may_train

    @property
    def good(self) -> bool:
        """The prompt passes the bar beyond doubt: the lower end of its interval does."""
        return _low(self.measured.prompt) >= self.good_enough

    @property
    def plain_is_enough(self) -> bool:
        return _low(self.measured.tfidf) >= self.good_enough

    @property
    def solved(self) -> bool:
        """No training could be worth its price: a prompt, a classifier or a program does it."""
        return self.good or self.plain_is_enough or self.rules == "all"

    @property
    def failing(self) -> int:
        return sum((self.measured.causes or {}).values())

    def part(self, *causes: str) -> float:
        """Share of the failing rows with one of these first causes."""
        return sum((self.measured.causes or {}).get(cause, 0) for cause in causes) / max(1, self.failing)

    @property
    def teachable(self) -> int:
        """Failing rows of a kind that labelled rows teach, as `evaluate.verdict` counts them: knowledge only if the rows hold it."""
        return sum(n for cause, n in (self.measured.causes or {}).items() if cause != "knowledge" or self.measured.teaches)

    @property
    def rows_teach(self) -> bool:
        """The greater part of the failures can be taught by rows, beyond doubt."""
        return bool(self.failing) and wilson_interval(self.teachable, self.failing)[0] > 0.5

    @property
    def unread(self) -> bool:
        """The model cannot read the language, there is text to learn it from, and it may be learnt."""
        return (
            self.may_train and self.access == "weights" and self.language == "unknown" and self.raw_mtokens >= MUCH_TEXT["unknown"]
        )

    @property
    def outside(self) -> bool:
        return self.known == "documents" or self.changes != "rarely" or self.cite


def _low(passed: tuple[int, int] | None) -> float:
    return wilson_interval(*passed)[0] if passed else 0.0


@dataclass(frozen=True)
class Rule:
    """One line of the table: what it says about a lever, when, the evidence it quotes, and why it is so."""

    lever: str
    verdict: str
    when: Callable[[Facts], bool]
    evidence: Callable[[Facts], str]
    why: str


def _of(passed: tuple[int, int] | None, who: str) -> str:
    if not passed:
        return f"{who}: not measured"
    low, high = wilson_interval(*passed)
    return f"{who}: {passed[0]} of {passed[1]} rows pass [{100 * low:.0f}, {100 * high:.0f}] %"


def _prompt(f: Facts) -> str:
    return f"{_of(f.measured.prompt, 'best prompt')}, wanted {100 * f.good_enough:.0f} % ({f.measured.source})"


def _plain(f: Facts) -> str:
    return f"{_of(f.measured.tfidf, 'plain classifier')}, wanted {100 * f.good_enough:.0f} % ({f.measured.source})"


def _causes(*names: str) -> Callable[[Facts], str]:
    def told(f: Facts) -> str:
        n = sum((f.measured.causes or {}).get(name, 0) for name in names)
        return f"first cause {' or '.join(names)}: {n} of {f.failing} failing rows ({f.measured.source})"

    return told


def _said(*names: str) -> Callable[[Facts], str]:
    return lambda f: ", ".join(f"{name}: {_shown(f.answers[name])}" for name in names) + " (your answers)"


def _shown(value: Any) -> str:
    return (
        {True: "yes", False: "no"}.get(value, str(value))
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _taught(f: Facts) -> str:
    return f"{f.teachable} of {f.failing} failures are of a kind that rows teach ({f.measured.source}); rows: {f.rows}"


RULES = (
    # a better prompt
    Rule("prompt_only", "first", lambda f: not f.prompt_tried and not f.measured.prompt and f.rules != "all", _said("prompt_tried"),
         "What a model cannot do is not known before a careful prompt was measured; every other lever is judged against it."),
    Rule("prompt_only", "first", lambda f: f.good, _prompt,
         "The prompt passes the bar with its whole interval: keep it, and keep measuring."),
    Rule("prompt_only", "first", lambda f: not f.solved and not f.may_train and not f.outside, _said("access", "rows_may_train"),
         "Where weights may not change, guide and examples can still stand in the prompt (few-shot: Brown et al. 2020)."),
    Rule("prompt_only", "no", lambda f: f.prompt_tried and f.may_train and f.measured.prompt and not f.good, _prompt,
         "The prompt was measured and falls short: more wording seldom mends what a measured, careful prompt does not do."),
    # code
    Rule("rules_in_code", "first", lambda f: f.rules == "all", _said("rules"),
         "What a program can compute is right every time, explains itself and costs nothing: a model only guesses it."),
    Rule("rules_in_code", "first", lambda f: f.plain_is_enough, _plain,
         "A plain classifier passes the bar; a language model would be a dearer way to the same place (baselines first)."),
    Rule("rules_in_code", "next", lambda f: f.rules == "part", _said("rules"),
         "Let the program compute its part (sums, dates, look-ups), and the model only the rest."),
    Rule("rules_in_code", "beside", lambda f: f.must_hold, _said("must_hold"),
         "No trained or prompted model keeps a rule every time; a check behind it does, whatever the score."),
    # form
    Rule("constrained_decoding", "no", lambda f: f.form == "free", _said("form"), "Free text has no grammar to hold it to."),
    Rule("constrained_decoding", "no", lambda f: f.form == "fixed" and f.failing > 0 and f.part("format") < 0.05, _causes("format"),
         "Form is not what fails: holding to it would change nothing."),
    Rule("constrained_decoding", "first",
         lambda f: not f.solved and f.form == "fixed" and f.part("format") >= 0.5 and (not f.may_train or f.rows < ENOUGH_ROWS),
         _causes("format"),
         "Form can be guaranteed without a single row (Willard and Louf 2023); measure again what is left of the failures."),
    Rule("constrained_decoding", "beside", lambda f: f.form == "fixed" and f.part("format") >= 0.05, _causes("format"),
         "It guarantees the form whatever else is done; it cannot make a value right."),
    # what stands outside
    Rule("retrieval", "first", lambda f: f.outside and not f.solved, _said("known", "changes", "cite"),
         "Facts belong into the prompt of the moment: they can be exchanged and named there (Lewis et al. 2020), and retrieval beat "
         "tuning at bringing in facts (Ovadia et al. 2023)."),
    Rule("retrieval", "no", lambda f: not f.outside, _said("known", "changes", "cite"), "Nothing outside of the message is needed."),
    # SFT
    Rule("sft", "no", lambda f: not f.may_train, _said("access", "rows_may_train"), "The model or the rows may not be trained with."),
    Rule("sft", "no", lambda f: f.rules == "all", _said("rules"), "A program does it exactly."),
    Rule("sft", "no", lambda f: f.plain_is_enough, _plain, "The plain classifier does it already."),
    Rule("sft", "no", lambda f: f.good and f.volume < HIGH_VOLUME, _prompt, "Nothing is left to teach that could be measured."),
    Rule("sft", "no", lambda f: f.rows < FEW_ROWS and f.pairs < FEW_PAIRS, _said("rows"),
         f"Fewer than {FEW_ROWS} rows can neither teach nor, split, show that they did: write rows first."),
    Rule("sft", "no", lambda f: f.known == "documents" and f.part("format", "instruction") < 0.5, _causes("format", "instruction"),
         "Tuning teaches conduct; facts it takes in slowly and it learns to make some up (Gekhman et al. 2024)."),
    Rule("sft", "no", lambda f: f.changes != "rarely" and f.part("format", "instruction") < 0.5, _said("changes"),
         "Weights would hold the answers of the day they were trained."),
    Rule("sft", "no", lambda f: not f.prompt_tried and not f.measured.prompt, _said("prompt_tried"), "Measure the prompt first."),
    Rule("sft", "no", lambda f: f.tuned, lambda f: f"{_of(f.measured.tuned, 'tuned model')} ({f.measured.source}); tuned: yes",
         "It was done. More of it brings what more and other rows bring: see ftlab data feedback."),
    Rule("sft", "first", lambda f: not f.solved and not f.unread and f.rows >= ENOUGH_ROWS and f.rows_teach, _taught,
         "Most of what fails is form, conduct or a judgement that the rows hold: this is what examples teach (evaluate.verdict)."),
    Rule("sft", "next", lambda f: not f.solved and f.unread, _said("rows", "language"),
         "Rows teach the task once the model can read the language."),
    Rule("sft", "next", lambda f: not f.solved and f.rows < ENOUGH_ROWS and f.rows_teach, _taught,
         f"Of a kind that rows teach, but {ENOUGH_ROWS} rows and more are wanted to do it reliably."),
    Rule("sft", "next", lambda f: not f.solved and f.known == "examples" and not f.rows_teach, _taught,
         "The judgement stands in examples, but it is not shown that these rows teach it: try on a part, with validation rows."),
    Rule("sft", "next", lambda f: f.good and f.volume >= HIGH_VOLUME, _said("volume"),
         "For cost, not for quality: a smaller model or a shorter prompt that keeps the score (distillation: Hinton et al. 2015)."),
    # preferences
    Rule("preference_tuning", "no", lambda f: not f.may_train, _said("access", "rows_may_train"),
         "The model or the rows may not be trained with."),
    Rule("preference_tuning", "no", lambda f: f.solved, _prompt, "Nothing is left to prefer: a cheaper lever passes the bar."),
    Rule("preference_tuning", "no", lambda f: f.judged == "right", _said("judged"),
         "Where answers are right or wrong, the labelled answer itself teaches more than a comparison."),
    Rule("preference_tuning", "no", lambda f: f.pairs < FEW_PAIRS, _said("pairs"),
         f"Fewer than {FEW_PAIRS} pairs: collect comparisons first."),
    Rule("preference_tuning", "first", lambda f: f.judged == "preferred" and f.tuned, _said("judged", "tuned", "pairs"),
         "The model can write both answers; pairs say which one is wanted (Rafailov et al. 2023)."),
    Rule("preference_tuning", "next", lambda f: f.judged == "preferred", _said("judged", "tuned", "pairs"),
         "First the model has to write acceptable answers at all, then it learns which are preferred (Ouyang et al. 2022)."),
    # the language itself
    Rule("continued_pretraining", "no", lambda f: f.language == "known", _said("language"), "The model reads the language already."),
    Rule("continued_pretraining", "no", lambda f: not f.may_train or f.access != "weights", _said("access", "rows_may_train"),
         "It needs the weights, and leave to train."),
    Rule("continued_pretraining", "no", lambda f: f.solved, _prompt, "A cheaper lever passes the bar."),
    Rule("continued_pretraining", "no", lambda f: f.raw_mtokens < MUCH_TEXT.get(f.language, 0), _said("raw_mtokens", "language"),
         "Too little text to learn a language from: what there is may stand in prompts or become rows."),
    Rule("continued_pretraining", "first", lambda f: f.unread, _said("language", "raw_mtokens"),
         "A model learns a notation from running text, which needs no labels (Gururangan et al. 2020)."),
    Rule("continued_pretraining", "next", lambda f: f.language == "partly", _said("language", "raw_mtokens"),
         "It reads the language in part: worth a trial against SFT alone at equal cost."),
)  # fmt: skip


def recommend(answers: dict[str, Any], measured: Measured) -> dict:
    """The levers, ranked, each with the rules that spoke about it.

    Args:
        answers: checked answers to every question (`check_answers`).
        measured: the error analysis of the baseline.

    Returns:
        {"train": whether a training lever is to be done first, "headline", "first_of_all": [what has to be known before], "levers":
        [{"lever", "name", "verdict", "says", "reasons": [{"verdict", "why", "evidence"}], "cost"}], "answers", "measured"}.
    """
    facts = Facts(answers, measured)
    levers = [_lever(name, facts) for name in LEVERS]
    order = ("first", "next", "beside", "no")
    levers.sort(key=lambda lever: order.index(lever["verdict"]))  # stable: the cheaper stays before the dearer
    first = [lever for lever in levers if lever["verdict"] == "first"]
    train = any(lever["lever"] in TRAINING for lever in first)
    told = " and ".join(lever["name"] for lever in first) or "measure more; no lever is called for yet"
    headline = f"{'Train' if train else 'Do not train'}: {told}."
    return {
        "train": train, "headline": headline, "first_of_all": _first_of_all(facts), "levers": levers, "answers": answers,
        "measured": asdict(measured),
    }  # fmt: skip


def _lever(name: str, facts: Facts) -> dict:
    """What the rules say of one lever: the strongest verdict, with its reasons first."""
    spoke = [rule for rule in RULES if rule.lever == name and rule.when(facts)]
    spoke.sort(key=lambda rule: VERDICTS.index(rule.verdict))
    verdict = spoke[0].verdict if spoke else "no"
    reasons = [{"verdict": rule.verdict, "why": rule.why, "evidence": rule.evidence(facts)} for rule in spoke]
    nothing = [{"verdict": "no", "why": "No rule of the table calls for it.", "evidence": "your answers and the measured failures"}]
    return {
        "lever": name, "name": LEVERS[name], "verdict": verdict, "says": SAYS[verdict], "reasons": reasons or nothing,
        "cost": COSTS[name](facts),
    }  # fmt: skip


def _first_of_all(facts: Facts) -> list[str]:
    """What has to be known before any lever is pulled."""
    told = []
    if not facts.measured.prompt:
        told.append("Measure the untuned model with its best prompt on labelled rows: ftlab run, or ftlab eval --base --json.")
    elif facts.measured.prompt[1] < FEW_ROWS:
        n = facts.measured.prompt[1]
        low, high = wilson_interval(n // 2, n)
        told.append(f"Label more held-out rows: {n} give intervals up to {100 * (high - low):.0f} points wide.")
    if facts.measured.prompt and not facts.failing and not facts.good:
        told.append("Sort the failures by their first cause: without it the table cannot tell form from knowledge.")
    return told


def _sft_cost(f: Facts) -> str:
    hours = max(0, ENOUGH_ROWS - f.rows) / ROWS_AN_HOUR
    label = (
        f"about {hours:.0f} hours of labelling (to {ENOUGH_ROWS} rows at {ROWS_AN_HOUR} an hour)"
        if hours
        else "no more labelling to begin with"
    )
    trained = (
        f"{f.measured.minutes:.0f} minutes the last time ({f.measured.source})"
        if f.measured.minutes is not None
        else "ftlab cost tells the minutes"
    )
    return f"{label}; training: {trained}; then a model of your own to serve and to test again after each change."


def _preference_cost(f: Facts) -> str:
    hours = max(0, 500 - f.pairs) / PAIRS_AN_HOUR
    label = (
        f"about {hours:.0f} hours of comparing (to 500 pairs at {PAIRS_AN_HOUR} an hour)"
        if hours
        else "no more comparing to begin with"
    )
    return f"{label}; a training like SFT's with two answers a row; a general suite before and after, since it can wreck form."


def _pretraining_cost(f: Facts) -> str:
    flops = 6 * 135e6 * f.raw_mtokens * 1e6
    return (
        f"6·N·D for 135M parameters and {f.raw_mtokens:g} million tokens (Kaplan et al. 2020): {flops:.1e} operations, "
        f"{flops / FLOPS / 3600:.0f} hours on two cores; then SFT on top, and general text to keep what was there."
    )


COSTS: dict[str, Callable[[Facts], str]] = {
    "prompt_only": lambda f: (
        f"hours of wording; each request pays for the longer prompt{f', {f.volume:,.0f} times a day' if f.volume else ''}."
    ),
    "rules_in_code": lambda f: "hours to days of a programmer, next to nothing a request; has to be kept up with the rules.",
    "constrained_decoding": lambda f: "hours to set up, no rows, no training; a little slower a token.",
    "retrieval": lambda f: "an index to build and to keep fresh, search rows to measure it by; passages make every prompt longer.",
    "sft": _sft_cost,
    "preference_tuning": _preference_cost,
    "continued_pretraining": _pretraining_cost,
}


def recommendation_text(found: dict) -> str:
    """The recommendation to read: headline, what comes before, the levers in their order with reason, evidence and cost."""
    lines = [
        found["headline"],
        *(f"First of all: {told}" for told in found["first_of_all"]),
        f"Measured: {found['measured']['source']}.",
    ]
    for number, lever in enumerate(found["levers"], 1):
        lines.append(f"\n{number}. {lever['name']}: {lever['says']}")
        for reason in lever["reasons"]:
            if reason["verdict"] == lever["verdict"]:
                lines += [f"   why       {reason['why']}", f"   evidence  {reason['evidence']}"]
        if lever["verdict"] != "no":
            lines.append(f"   cost      {lever['cost']}")
    return "\n".join(lines)


def check_answers(given: dict[str, Any], defaults: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """(an answer to every question, the names of those that were not given and took their default).

    Args:
        given: answers by name, as a file holds them; yes and no may be written as true and false.
        defaults: what the task folder itself tells.

    Raises:
        DataError: an unknown name, an answer that is none of the choices, or questions without an answer; all are named.
    """
    known = {q.name: q for q in QUESTIONS}
    problems = [f"{name}: not a question; the questions are {', '.join(known)}" for name in given if name not in known]
    answers, taken = {}, []
    for q in QUESTIONS:
        value = given.get(q.name, defaults.get(q.name, q.default))
        if value is None:
            problems.append(f"{q.name}: no answer; {q.asks} ({_allowed(q)})")
            continue
        try:
            answers[q.name] = read_answer(q, value)
        except ValueError as error:
            problems.append(f"{q.name}: {error}")
        if q.name not in given:
            taken.append(q.name)
    if problems:
        raise DataError(f"answers: {len(problems)} cannot be used; mend each of these and run again:", problems)
    return answers, taken


def _allowed(q: Question) -> str:
    return " or ".join(q.choices) if q.choices else "a number from 0 on"


def read_answer(q: Question, value: Any) -> Any:
    """An answer as the rules use it: a choice, a truth or a number.

    Raises:
        ValueError: it is none of those that are possible.
    """
    if q.choices == ("yes", "no"):
        if value in (True, False, "yes", "no"):
            return value in (True, "yes")
    elif q.choices:
        if value in q.choices:
            return value
    else:
        number = _number(value)
        if number is not None and 0 <= number < float("inf") and (q.name != "good_enough" or 0 < number <= 1):
            return number
    raise ValueError(f"expected {_allowed(q)}{', at most 1' if q.name == 'good_enough' else ''}, found {value!r}")


def _number(value: Any) -> float | int | None:
    try:
        number = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number is not None and number.is_integer() and abs(number) < 1e15 else number


def ask(defaults: dict[str, Any], reply: Callable[[str], str] = input, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Ask every question; an empty reply takes what stands in brackets, an impossible one is asked again."""
    given: dict[str, Any] = {}
    for number, q in enumerate(QUESTIONS, 1):
        default = defaults.get(q.name, q.default)
        bracket = "" if default is None else f" [{_shown(default)}]"
        while q.name not in given:
            text = reply(f"{number}/{len(QUESTIONS)} {q.asks}\n   {_allowed(q)}{bracket}: ").strip()
            if not text and default is not None:
                text = default
            try:
                given[q.name] = read_answer(q, text)
            except ValueError as error:
                say(f"   {error}")
    return given


def task_defaults(task: Task) -> dict[str, Any]:
    """What a task folder tells by itself: its rows, its pairs, and that its answers have a form."""
    pairs = task.folder / "pairs.jsonl"
    counted = sum(bool(line.strip()) for line in pairs.read_text(encoding="utf-8").splitlines()) if pairs.is_file() else 0
    copied = any(rule["rule"] == "copied_from_input" for rule in task.rules)
    return {"rows": len(task.rows("train")), "pairs": counted, "form": "fixed"} | ({"rules": "part"} if copied else {})


def read_measured(task: Task, path: Path) -> Measured:
    """The error analysis in a run folder, a results.json or what `ftlab eval --base --json` wrote.

    Raises:
        DataError: it is none of these, or about other rows or rules than the task's.
    """
    place = path / "results.json" if path.is_dir() else path
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        return _from_results(task, found, place) if "systems" in found else _from_evaluation(task, found, place)
    except FileNotFoundError:
        raise DataError(f"{place}: expected the results of a run, found no file.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{place}: expected a results.json or what ftlab eval --json writes, found something else ({error!r})."
        ) from None


def _from_results(task: Task, found: dict, place: Path) -> Measured:
    now, then = task.hashes(), found["about"]["hashes"]
    if other := [name for name in ("schema", "rules", "test") if now[name] != then.get(name)]:
        raise DataError(f"{place}: expected results of this task, found some of another {', '.join(other)}; run ftlab run again.")
    systems, best = found["systems"], found["about"]["best_prompt"]
    causes = {cause: systems[best]["first_causes"][cause]["k"] for cause in CAUSE_ORDER}
    teachable = (found.get("verdict") or {}).get("teachable")
    others = sum(n for cause, n in causes.items() if cause != "knowledge")
    training = found.get("training") or {}
    return Measured(
        source=f"{'/'.join(place.resolve().parts[-2:])}, {systems[best]['n']} test rows, {best} of {found['about']['model']['name']}",
        prompt=_counts(systems[best]), causes=causes, tfidf=_counts(systems["tfidf"]),
        teaches=None if teachable is None or not causes["knowledge"] else teachable["k"] > others,
        tuned=_counts(systems["tuned"]) if "tuned" in systems else None,
        minutes=round(training["seconds"] / 60, 1) if "seconds" in training else None,
    )  # fmt: skip


def _counts(evaluation: dict) -> tuple[int, int]:
    strict = evaluation["scores"]["strict"]
    return strict["k"], strict["n"]


def _from_evaluation(task: Task, found: dict, place: Path) -> Measured:
    """Of an untuned model; the plain classifier is trained and scored on the same rows, and `evaluate.verdict` weighs both."""
    from ftlab.evaluate import verdict

    ids = [record["id"] for record in found["rows"]]
    split = next((s for s in ("validation", "test") if set(ids) <= {row.id for row in task.rows(s)}), None)
    if split is None:
        raise DataError(f"{place}: expected validation or test rows of {task.name}, found other rows.")
    by_id = {row.id: row for row in task.rows(split)}
    plain = _plain_evaluation(task, [by_id[i] for i in ids])
    judged = verdict(found, plain)
    causes = {cause: found["first_causes"][cause]["k"] for cause in CAUSE_ORDER}
    return Measured(
        source=f"{place.name}, {len(ids)} {split} rows", prompt=_counts(found), causes=causes, tfidf=_counts(plain) if plain else None,
        teaches=judged["by_cause"]["knowledge"]["lever"] == "fine-tune" if "knowledge" in judged["by_cause"] else None,
    )  # fmt: skip


def measure_plain(task: Task) -> Measured:
    """The cheap baseline alone, on validation rows: TF-IDF with the task's patterns. It cannot say what a model would fail at."""
    rows = task.rows("validation")
    plain = _plain_evaluation(task, rows)
    if plain is None:
        return Measured(source="nothing was measured: one class alone, from which no classifier can be made")
    return Measured(source=f"TF-IDF on {len(rows)} validation rows, run now", tfidf=_counts(plain))


def _plain_evaluation(task: Task, rows: Sequence[Any]) -> dict | None:
    from ftlab.baselines import task_baseline
    from ftlab.evaluate import evaluate_outputs

    classes = {json.dumps(row.output.get(task.class_field)) for row in task.rows("train")} if task.class_field else set()
    return evaluate_outputs(task, rows, task_baseline(task).predict(rows)) if len(classes) > 1 else None
