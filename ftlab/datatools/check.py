"""`ftlab data check`: everything about a folder's rows that a person should know before training on them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ftlab.datatools.labels import conflict, same_answer, signs, suspects
from ftlab.datatools.phrases import Phrase, identifies, skeleton, templates, texts_of, top_phrases, values_used
from ftlab.datatools.pii import CERTAIN, scan
from ftlab.datatools.sets import Sets, copied_values, value_paths
from ftlab.datatools.similar import Pair, meaning_pairs, near_pairs
from ftlab.errors import UsageError
from ftlab.rows import Row

KINDS = {  # in the order of the report
    "broken": "rows that the loader refuses",
    "leakage": "near the same message in sets that have to be kept apart",
    "duplicate": "the same message twice in sets for one purpose",
    "near_duplicate": "near the same message with the same answer",
    "paraphrase": "the same meaning, by embedding, in sets that have to be kept apart",
    "twin": "near the same message with another answer",
    "conflict": "labels that contradict each other",
    "template": "one wording, filled with values",
    "phrase": "a run of words that many rows share",
    "value_reuse": "a person's or an order's value in several rows",
    "personal": "a value that could be a real person's",
    "label": "labels that the other rows speak against",
}
_PHRASE_WORDS = 5


@dataclass(frozen=True)
class Finding:
    """One thing to know about one place.

    Attributes:
        matters: True if the set is not clean with it; False if a person should have a look.
        where: "file:line"; `others` are the further places it is about.
    """

    kind: str
    matters: bool
    where: str
    message: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """From where on something is a finding."""

    similarity: float = 0.8  # of two messages, 0 to 1, in either view
    template_share: float = 0.02  # of all rows
    value_share: float = 0.01  # of all rows, and at least 5 rows, with one identifying value
    meaning: float = 0.0  # cosine of two messages' embeddings; 0 leaves that view out
    label_margin: float = 0.8  # by how much the likelier class must lead the label: most of those below are hard, not wrong
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("similarity", "template_share", "value_share"):
            if not 0 < getattr(self, name) <= 1:
                option = "--threshold" if name == "similarity" else f"--{name.replace('_', '-')}"
                raise UsageError(f"{option}: expected a number above 0 and at most 1, found {getattr(self, name)}.")
        if not 0 <= self.meaning <= 1:
            raise UsageError(f"--embedding: expected a number from 0 (off) to 1, found {self.meaning}.")


@dataclass(frozen=True)
class _Material:
    """The rows of all files in one list, with what several checks need of them."""

    sets: Sets
    rows: list[Row]
    roles: list[str]
    values: list[list[tuple[str, str]]]  # labelled values that stand in the message
    skeletons: list[str]

    @classmethod
    def of(cls, sets: Sets) -> "_Material":
        rows = sets.rows
        paths = value_paths(sets.task)
        values = [copied_values(row, paths) for row in rows]
        return cls(sets, rows, sets.roles, values, [skeleton(r.text, v) for r, v in zip(rows, values, strict=True)])


def check_sets(sets: Sets, limits: Limits | None = None) -> dict:
    """Check the rows of one folder.

    Returns:
        {"name", "rows" by file, "limits", "clean", "counts": kind → {"matters", "look"}, "findings", "phrases", "values",
        "doubted": rows whose label the others speak against at all, "not_judged": those that could not be judged}; no finding is left out.
    """
    limits = limits or Limits()
    material = _Material.of(sets)
    labels, doubted, not_judged = _labels(material, limits)
    findings = [
        *(Finding("broken", True, *said.split(": ", 1)) for said in sets.broken),
        *_alike(material, near_pairs([row.text for row in material.rows], limits.similarity, limits.seed), limits),
        *_paraphrases(material, limits),
        *_templates(material, limits),
        *_reuse(material, limits),
        *_personal(material),
        *labels,
    ]
    findings.sort(key=lambda finding: (list(KINDS).index(finding.kind), not finding.matters))
    counts = Counter((finding.kind, finding.matters) for finding in findings)
    return {
        "name": sets.name,
        "rows": {stem: len(rows) for stem, rows in sets.files.items()},
        "limits": asdict(limits),
        "clean": not any(finding.matters for finding in findings),
        "counts": {kind: {"matters": counts[kind, True], "look": counts[kind, False]} for kind in KINDS},
        "findings": [asdict(finding) for finding in findings],
        "phrases": [phrase._asdict() for phrase in _frequent(material)],
        "values": _value_table(material),
        "doubted": doubted,
        "not_judged": not_judged,
    }


def _alike(material: _Material, pairs: Sequence[Pair], limits: Limits) -> Iterator[Finding]:
    """One finding of a kind for each later row, with its nearest partner and the places of all: a template's rows would make n² pairs."""
    told: dict[tuple[str, int], Finding] = {}
    for pair in pairs:  # nearest first
        for kind, matters, says in _relations(material, pair):
            where, other = material.rows[pair.second].where, material.rows[pair.first].where
            message = f"{pair.similarity:.2f} alike ({pair.view}) to {other}{says}"
            first = told.setdefault((kind, pair.second), Finding(kind, matters, where, message))
            told[kind, pair.second] = replace(first, others=(*first.others, other))
    yield from told.values()
    repeated = [finding for finding in told.values() if finding.kind == "near_duplicate"]
    if len(repeated) > max(limits.template_share * len(material.rows), 2):
        share = f"{100 * len(repeated) / len(material.rows):.1f} % of all"
        says = f"{len(repeated)} rows ({share}) nearly repeat another; see ftlab data dedupe"
        yield Finding("near_duplicate", True, repeated[0].where, says)


def _relations(material: _Material, pair: Pair) -> Iterator[tuple[str, bool, str]]:
    """(kind, whether it matters, what to say) of each thing that two alike rows are to each other."""
    task, a, b = material.sets.task, material.rows[pair.first], material.rows[pair.second]
    labelled = task is not None and bool(a.output and b.output)
    same = not labelled or same_answer(task, a, b)
    if labelled and (why := conflict(task, a, b, (material.skeletons[pair.first], material.skeletons[pair.second]))):
        yield "conflict", True, f": {why}"
    if material.roles[pair.first] != material.roles[pair.second]:
        yield "leakage", True, f", a {material.roles[pair.first]} row"
    elif signs(a) == signs(b) and same:
        # a preference pair may well share its message with a labelled row: they are different lessons
        yield "duplicate", a.where.split(":")[0] == b.where.split(":")[0], ", the same message"
    else:
        yield ("near_duplicate", False, ", with the same answer") if same else ("twin", False, ", with another answer")


def _paraphrases(material: _Material, limits: Limits) -> Iterator[Finding]:
    """Held-out rows that another set's row says in other words: a person decides whether that is too near."""
    if not limits.meaning:
        return
    for pair in meaning_pairs([row.text for row in material.rows], limits.meaning):
        a, b = material.rows[pair.first], material.rows[pair.second]
        if material.roles[pair.first] != material.roles[pair.second]:
            says = f"{pair.similarity:.2f} alike ({pair.view}) to {a.where}, a {material.roles[pair.first]} row"
            yield Finding("paraphrase", False, b.where, says, (a.where,))


def _templates(material: _Material, limits: Limits) -> Iterator[Finding]:
    for phrase, at in templates(material.skeletons, limits.template_share):
        places = tuple(material.rows[i].where for i in at)
        says = f"{phrase.rows} rows ({100 * phrase.share:.1f} %) are {phrase.text!r} with other values"
        yield Finding("template", True, places[0], says, places[1:])
    for phrase in _frequent(material):
        if phrase.share > limits.template_share and phrase.rows > 2:
            places = tuple(
                row.where for row, text in zip(material.rows, material.skeletons, strict=True) if f" {phrase.text} " in f" {text} "
            )
            says = f"{phrase.rows} rows ({100 * phrase.share:.1f} %) hold {phrase.text!r}"
            yield Finding("phrase", False, places[0], says, places[1:])


def _frequent(material: _Material) -> list[Phrase]:
    return top_phrases(material.skeletons, _PHRASE_WORDS, 20)


def _reuse(material: _Material, limits: Limits) -> Iterator[Finding]:
    for path, used in values_used(material.values).items():
        for value, at in used.items():
            if not identifies(value) or len(at) < 2:
                continue
            roles = sorted({material.roles[i] for i in at})
            places = tuple(material.rows[i].where for i in at)
            if len(roles) > 1:
                says = f"{path} {value!r} is labelled in {' and '.join(roles)} rows"
            elif len(at) >= max(5, limits.value_share * len(material.rows)):
                says = f"{path} {value!r} is labelled in {len(at)} rows"
            else:
                continue
            yield Finding("value_reuse", False, places[0], says, places[1:])


def _value_table(material: _Material) -> dict[str, dict]:
    """For each path: labelled values, distinct ones, those held-out values that training rows also have, and the commonest five."""
    table = {}
    for path, used in values_used(material.values).items():
        held = {v for v, at in used.items() if any(material.roles[i] != "train" for i in at)}
        known = {v for v in held if any(material.roles[i] == "train" for i in used[v])}
        common = sorted(used.items(), key=lambda item: (-len(item[1]), item[0]))[:5]
        table[path] = {
            "labelled": sum(map(len, used.values())), "distinct": len(used), "held_out": len(held), "held_out_in_training": len(known),
            "commonest": {value: len(at) for value, at in common},
        }  # fmt: skip
    return table


def _personal(material: _Material) -> Iterator[Finding]:
    for row in material.rows:
        for found in dict.fromkeys(found for text in texts_of(row) for found in scan(text)):
            yield Finding("personal", found.kind in CERTAIN, row.where, f"{found.value!r}: {found.why}")


def _labels(material: _Material, limits: Limits) -> tuple[list[Finding], int, int]:
    """Findings about labels, how many labels the other rows speak against in all, and how many could not be judged."""
    task = material.sets.task
    labelled = [row for row in material.rows if task and task.class_field and row.output]
    if not labelled:
        return [], 0, len(material.rows)
    classes = [str(row.output.get(task.class_field)) for row in labelled]
    found, not_judged = suspects([row.text for row in labelled], classes, limits.seed)
    says = "labelled {} ({:.2f}), the other rows say {} ({:.2f})"
    findings = [
        Finding("label", False, labelled[s.index].where, says.format(s.label, s.p_label, s.likely, s.p_likely))
        for s in found
        if s.p_likely - s.p_label >= limits.label_margin
    ]
    return findings, len(found), not_judged + len(material.rows) - len(labelled)


def report_text(result: dict[str, Any], shown: int = 5) -> str:
    """A report to read: every finding that matters, and the first `shown` of each kind that are only to be looked at."""
    sizes = ", ".join(f"{stem} {n}" for stem, n in result["rows"].items())
    lines = [f"{result['name']} ({sizes} rows): {'clean' if result['clean'] else 'NOT CLEAN'}"]
    for kind, counts in result["counts"].items():
        own = [finding for finding in result["findings"] if finding["kind"] == kind]
        grave, rest = own[: counts["matters"]], own[counts["matters"] :]
        lines.append(f"  {kind:<15}{counts['matters']:>5} that matter{counts['look']:>6} to look at   {KINDS[kind]}")
        lines += [f"    {'!' if finding['matters'] else ' '} {_line(finding)}" for finding in [*grave, *rest[:shown]]]
        lines += [f"      … and {len(rest) - shown} more; --json holds all of them"] if len(rest) > shown else []
    if result["phrases"]:
        top = "; ".join(f"{p['text']!r} {100 * p['share']:.1f} %" for p in result["phrases"][:3])
        lines.append(f"  commonest runs of {_PHRASE_WORDS} words: {top}")
    for path, used in result["values"].items():
        seen = (
            f", {used['held_out_in_training']} of {used['held_out']} held-out ones also in training rows"
            if used["held_out"]
            else ""
        )
        lines.append(f"  {path}: {used['distinct']} different values in {used['labelled']} labels{seen}")
    if result["doubted"]:
        margin = result["limits"]["label_margin"]
        lines.append(f"  {result['doubted']} labels are doubted by the other rows, those above by {margin:.2f} or more")
    if result["not_judged"]:
        lines.append(f"  {result['not_judged']} rows have no class, or too rare a one, for their label to be judged by the others")
    return "\n".join(lines)


def _line(finding: dict) -> str:
    others = [place for place in finding["others"] if place not in finding["message"]]
    more = f" (also {', '.join(others[:3])}{', …' if len(others) > 3 else ''})" if others else ""
    return f"{finding['where']}: {finding['message']}{more}"
