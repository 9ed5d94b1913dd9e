"""The report of a run: what was asked, what the untuned model could do, what training changed and cost, what stays open.

One list of blocks is built from the results and rendered twice, as a self-contained HTML page and as Markdown, so nothing is
written twice. Every number comes from the results. Text from rows and models is data: shown escaped, its invisible characters
made visible.
"""

import json
import re
import shutil
from base64 import b64encode
from collections import Counter, namedtuple
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from io import BytesIO
from pathlib import Path

from ftlab.stats import p_value, percent

Heading = namedtuple("Heading", "level text")
Table = namedtuple("Table", "head rows")  # lists of cells; a row's first cell names it
Picture = namedtuple("Picture", "name caption")  # a figure of `plots.FIGURES`, and the sentence that reads it


class Code(str):
    """A block or cell to be read letter by letter: a model's raw answer, a label as JSON."""


Block = Heading | Table | Picture | Code | str  # a plain string is a paragraph
Image = tuple[bytes, str]  # PNG and alt text


def write_report(results: dict, out: Path) -> Path:
    """Write report.html, report.md and figures/*.png into the run folder `out`; returns the path of the page.

    Args:
        results: as returned by `run_main_job`.
    """
    from ftlab.plots import FIGURES

    blocks, images = report_blocks(results), {}
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for name in [block.name for block in blocks if isinstance(block, Picture)]:
        figure, png = FIGURES[name](results), BytesIO()
        figure.savefig(png, format="png", dpi=150)
        images[name] = (png.getvalue(), figure.get_label())
        (out / "figures" / f"{name}.png").write_bytes(png.getvalue())
    title = f"Fine-tuning report: {results['about']['task']}"
    (out / "report.md").write_text("\n\n".join(_markdown(block, images) for block in blocks) + "\n", encoding="utf-8")
    body = "\n".join(_html(block, images) for block in blocks)
    (out / "report.html").write_text(PAGE.format(title=escape(title), style=STYLE, body=body), encoding="utf-8")
    return out / "report.html"


def publish(out: Path, folder: Path, name: str) -> None:
    """Copy a run's results into `folder` as NAME.json and NAME_rows.json, and its figures into folder/figures/ as NAME_*.png."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(out / "results.json", folder / f"{name}.json")
    shutil.copyfile(out / "rows.json", folder / f"{name}_rows.json")
    for png in sorted((out / "figures").glob("*.png")):
        shutil.copyfile(png, folder / "figures" / f"{name}_{png.name}")


def report_blocks(results: dict) -> list[Block]:
    """The whole report, in reading order."""
    sections = {
        "What was specified": _specified, "Before: what works without training": _before, "Training": _training,
        "After: what training changed": _after, "Failure flow": _flow, "Where the tuned model is strong and weak": _groups,
        "Examples side by side": _examples, "Failures left": _failures, "Tokens per request": _tokens,
        "Regression check: did it forget?": _regression, "Cost": _cost, "What this does not show": _limits,
    }  # fmt: skip
    blocks: list[Block] = [Heading(1, f"Fine-tuning report: {results['about']['task']}"), *_headline(results)]
    for title, section in sections.items():
        blocks += [Heading(2, title), *section(results)]
    return blocks


def _headline(r: dict) -> Iterator[Block]:
    about, training, best = r["about"], r["training"], r["about"]["best_prompt"]
    before, after, tests = r["systems"][best]["scores"], r["systems"]["tuned"]["scores"], r["paired"][best]
    names = ("strict", "schema_valid")
    yield (
        f"Before is the untuned model with the better of two long prompts ({best}); after is the tuned model with a short one. "
        f"Both answered the same {about['test_rows_scored']} test rows ({about['test_rows_chosen']})."
    )
    rows = [[name, percent(before[name]), percent(after[name]), _change(tests[name])] for name in names]
    yield Table(["score", "before", "after", "rows gained and lost"], rows)
    yield f"strict: nothing wrong at all; schema_valid: of the right form. {_sentence(r, best, 'strict')}"
    trained = (
        f"trained on {training['rows']} rows in {training['steps']} steps and {_time(training['seconds'])}, validation not counted."
        if training
        else "tuned by an adapter that came without a record of its training."
    )
    yield f"Model {about['model']['name']}, profile {about['profile']}, {trained}"
    yield (
        "How to read it: brackets hold the 95 % Wilson interval, the true shares that fit what was seen. +3 −1 means that 3 rows "
        "fail before and pass after, 1 the other way round; p (exact McNemar test) is how often chance alone splits so unevenly."
    )


def _specified(r: dict) -> Iterator[Block]:
    about = r["about"]
    field = f"The class field is {about['class_field']}." if about["class_field"] else "There is no class field."
    keys = ", ".join(r["examples"][0]["expected"])
    yield f"{about['description']} An answer is one JSON object with the keys {keys}. {field}".strip()
    yield "Scores, as shares of the rows. The first five are a ladder, each asking for all above it too:"
    yield Table(["score", "counts an answer that is or has"], [[name, about["score_meanings"][name]] for name in _scores(r)])
    derived = f"The task folder lacks these, so they were derived: {', '.join(about['derived'])}." if about["derived"] else ""
    yield f"Rows, and the start of each file's SHA-256 hash: the same hash means the same file. {derived}".strip()
    hashes = about["hashes"] | {"model": about["model"]["sha256"], "adapter": about["adapter_sha256"] or "–"}
    yield Table(["part", "rows", "hash"], [[name, str(about["rows"].get(name, "")), Code(h[:12])] for name, h in hashes.items()])


def _before(r: dict) -> Iterator[Block]:
    shots = r["about"]["shots"]
    yield (
        "tfidf is no language model: word counts, a linear classifier and extraction rules. prompt is the untuned model with the "
        f"long prompt; few_shot adds {len(shots)} worked examples from the training rows ({', '.join(shots)})."
    )
    yield _score_table(r, [name for name in r["systems"] if name not in ("tuned", "constrained")])
    if r["classifiers"]:
        yield f"Plain classifiers that decide {r['about']['class_field']} and nothing else, and what the tuned model gains on them:"
        rows = [[name, percent(c["accuracy"]), _change(c["tuned_against_it"])] for name, c in r["classifiers"].items()]
        yield Table(["classifier", "accuracy", "tuned against it"], rows)
    yield "Is training the right lever? " + " ".join(r["verdict"]["why"])
    if levers := [[cause, str(c["rows"]), c["lever"]] for cause, c in r["verdict"]["by_cause"].items()]:
        yield Table(["first cause of failure", "rows", "what mends it"], levers)


def _training(r: dict) -> Iterator[Block]:
    training, settings = r["training"], r["about"]["trained_with"]
    method = settings.get("method", "lora")
    yield f"Supervised fine-tuning by {method}. ftlab train prints what each setting is for before it starts."
    if settings:
        yield Table(["setting", "value"], [[name, str(value)] for name, value in settings.items()])
    if not training.get("curve"):
        yield "There is no learning curve: the adapter came without one."
        return
    weight = settings.get("text_weight", 1)
    caption = (
        f"Pass {training['best_epoch']} was kept: the best strict score on {training['validation_rows']} validation rows. "
        "train_loss is the mean over a pass while the model still changes, validation_loss is measured after it."
    )
    caption += f" Free text weighs {weight} in train_loss and 1 in validation_loss, so their levels differ." if weight != 1 else ""
    yield Picture("learning_curves", caption)
    scores = [name for name in _scores(r) if name in training["curve"][0]]
    rows = [
        [str(p["epoch"]), f"{p['train_loss']:.3f}", f"{p['validation_loss']:.3f}", *(_percent(p[name]) for name in scores)]
        for p in training["curve"]
    ]
    yield Table(["pass", "train_loss", "validation_loss", *scores], rows)


def _after(r: dict) -> Iterator[Block]:
    best, paired = r["about"]["best_prompt"], r["paired"]
    yield _score_table(r, [name for name in (best, "tuned", "constrained") if name in r["systems"]])
    if "constrained" in r["systems"]:
        yield (
            "constrained is the tuned model, held to the message while it writes a value that has to be copied: where its next token "
            "would leave the message, the likeliest that does not is taken. Nothing is mended afterwards, and a copied value may still be "
            "the wrong one."
        )
    yield Picture("score_bars", f"{_sentence(r, best, 'strict')} {_sentence(r, 'tfidf', 'strict')}")
    yield Picture("score_ladder", "Each rung asks for more, so lines only fall; where one falls most, there its answers go wrong.")
    worse = " and ".join(r["about"]["lower_is_better"])
    yield f"The tuned model against each system on the same rows. For {worse} a row gained is one fault more."
    rows = [[name, *(_change(test[name]) for test in paired.values())] for name in _scores(r)]
    yield Table(["score", *(f"tuned against {other}" for other in paired)], rows)


def _flow(r: dict) -> Iterator[Block]:
    causes = list(r["systems"]["tuned"]["first_causes"])
    yield "Each failing row has one first cause, the gravest of its faults: " + ", then ".join(causes) + "."
    moved: Counter[tuple[bool, bool]] = Counter()  # (passed before, passes after) → rows
    for step in r["flow"]:
        moved[step["before"] == "pass", step["after"] == "pass"] += step["rows"]
    told = f"Rows mended: {moved[False, True]}. Rows broken: {moved[True, False]}. Failing before and after: {moved[False, False]}."
    yield Picture("failure_flow", told)
    rows = [[name, *(str(s["first_causes"][cause]["k"]) for cause in causes)] for name, s in r["systems"].items()]
    yield Table(["rows by first cause", *causes], rows)


def _groups(r: dict) -> Iterator[Block]:
    tuned, scores = r["systems"]["tuned"], [name for name in ("strict", "class_right", "values_right") if name in _scores(r)]
    for title, key in ((r["about"]["class_field"], "by_class"), ("tag", "by_tag"), ("language", "by_lang")):
        if title:
            small = min(group["n"] for group in tuned[key])
            yield Heading(3, f"By {title}")
            if key == "by_class":
                yield Picture("class_intervals", f"Rows in the smallest class: {small}. Take the order of the classes as a hint.")
            rows = [[g["name"], str(g["n"]), *(percent(g[name]) for name in scores)] for g in tuned[key]]
            yield Table([title, "n", *scores], rows)


def _examples(r: dict) -> Iterator[Block]:
    yield f"{len(r['examples'])} rows at even steps through the test rows; nobody picked them."
    for example in r["examples"]:
        answers = [(name, ", ".join(a["labels"]) or "correct", a["text"]) for name, a in example["outputs"].items()]
        yield from _case(example["id"], example, answers)


def _failures(r: dict) -> Iterator[Block]:
    strict, codes = r["systems"]["tuned"]["scores"]["strict"], r["systems"]["tuned"]["codes"]
    yield f"{strict['n'] - strict['k']} of {strict['n']} rows still fail."
    if codes:
        yield Table(["kind of fault", "rows"], [[code, str(n)] for code, n in codes.items()])
        yield f"The {len(r['failures'])} most telling: one of each kind of fault before a second one, the gravest cause first."
    for failure in r["failures"]:
        faults = [(e["code"], e["path"], e["message"]) for e in failure["errors"]]
        yield from _case(f"{failure['id']}: {failure['first_cause']}", failure, [("tuned", "answer", failure["output"]), *faults])


def _case(title: str, row: dict, more: Iterable[tuple[str, str, str]]) -> Iterator[Block]:
    """One row: its message, its label, and what `more` adds as (who, what, text)."""
    yield Heading(3, title)
    label = Code(json.dumps(row["expected"], ensure_ascii=False))
    rows = [["message", "", row["input"]], ["expected", "label", label], *([who, what, Code(text)] for who, what, text in more)]
    yield Table(["part", "note", "text"], rows)


def _tokens(r: dict) -> Iterator[Block]:
    before, after, saved = (r["tokens"][key] for key in ("before", "after", "saved_per_request"))
    share = _percent(saved["prompt"] / before["prompt"])
    yield f"The tuned model is asked with the short prompt: {saved['prompt']:.1f} prompt tokens less per request, {share} of them."
    rows = [[key, *(f"{part[key]:.1f}" for part in (before, after, saved))] for key in ("prompt", "answer")]
    yield Table(["mean tokens", "before", "after", "saved"], rows)


def _regression(r: dict, shown: int = 10) -> Iterator[Block]:
    check = r["regression"]
    yield f"{check['n']} general prompts that have nothing to do with the task, before and after. An answer in JSON fails."
    rows = [[key, percent(check[key]), str(check["json_answers"][key])] for key in ("before", "after")]
    yield Table(["model", "passes", "answers in JSON"], rows)
    yield f"Prompts gained and lost: {_change(check['test'])}; {_reading(check['test'])}"
    if lost := [row for row in check["rows"] if row["id"] in check["lost"]]:
        yield f"Lost prompts, {min(shown, len(lost))} of {len(lost)} shown:"
        rows = [[row["id"], row["input"], Code(row["before"]), Code(row["after"])] for row in lost[:shown]]
        yield Table(["prompt", "text", "before", "after"], rows)


def _cost(r: dict) -> Iterator[Block]:
    cost, machine = r["cost"], r["about"]["machine"]
    stages = cost["seconds"] | {"all, with loading": cost["total_seconds"]}
    yield Table(["stage", "time"], [[name, _time(seconds)] for name, seconds in stages.items()])
    where = f"{machine['system']} on {machine['processor']}, Python {machine['python']}, ftlab {r['about']['ftlab']}"
    yield f"Peak memory: {cost['peak_memory_mb'] / 1000:.1f} GB. Machine: {where}."
    if cost["reused"]:
        yield f"Answers kept from an interrupted or earlier run, so not in these times: {', '.join(cost['reused'])}."


def _limits(r: dict) -> Iterator[Block]:
    about, strict, check = r["about"], r["systems"]["tuned"]["scores"]["strict"], r["regression"]
    yield f"One task ({about['task']}) and one model ({about['model']['name']}): another of either may gain more or less."
    yield f"One seed ({about['trained_with'].get('seed', 'unknown')}): the intervals hold the luck of the rows, not of training."
    yield "Test rows from the same source as the training rows: real messages may differ in ways that nobody thought of."
    yield (
        f"Few rows: with n = {strict['n']} the tuned strict share may lie anywhere from {_percent(strict['low'])} to "
        f"{_percent(strict['high'])}. Many paired tests are shown and none is corrected for that, so trust the one named first."
    )
    yield (
        f"A coarse regression check: {check['n']} prompts, each decided mechanically; the pass rate after tuning may lie anywhere "
        f"from {_percent(check['after']['low'])} to {_percent(check['after']['high'])}."
    )
    yield "A check sees what it was written to see: an answer that passes may still be worded badly."


def _scores(r: dict) -> list[str]:
    """The scores that mean something here: without a class field there is no class to get right."""
    return [name for name in r["about"]["score_meanings"] if name != "class_right" or r["about"]["class_field"]]


def _score_table(r: dict, names: Sequence[str]) -> Table:
    systems = [r["systems"][name] for name in names]
    rows = [[score, *(percent(system["scores"][score]) for system in systems)] for score in _scores(r)]
    rows.append(["F1 of the values", *("–" if s["value_f1"] is None else _percent(s["value_f1"]) for s in systems)])
    rows.append(["cut off at the token limit", *(percent(s["not_ended"]) if "not_ended" in s else "–" for s in systems)])
    return Table([f"score (n = {r['about']['test_rows_scored']})", *names], rows)


def _sentence(r: dict, other: str, score: str) -> str:
    test = r["paired"][other][score]
    return f"On {score}, tuned against {other}, {_change(test)}: {_reading(test)}"


def _reading(test: dict) -> str:
    if test["p"] >= 0.05:
        return "these rows do not tell the two apart."
    return f"more than chance explains, and for the {'better' if test['difference'] > 0 else 'worse'}."


def _change(test: dict) -> str:
    return f"+{test['gained']} −{test['lost']}, {p_value(test)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"


def _visible(text: str) -> str:
    """The text with characters that would not show, or would reorder what shows, as escapes such as \\x05; lines stay lines."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _html(block: Block, images: dict[str, Image]) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{escape(_visible(text))}</h{level}>"
        case Table(head, rows):
            top = "".join(f'<th scope="col">{_cell(text)}</th>' for text in head)
            body = "".join(
                f'<tr><th scope="row">{_cell(first)}</th>' + "".join(f"<td>{_cell(text)}</td>" for text in rest) + "</tr>\n"
                for first, *rest in rows
            )
            return f'<div class="wide"><table><thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>'
        case Picture(name, caption):
            png, alt = images[name]
            source = f"data:image/png;base64,{b64encode(png).decode()}"
            return f'<figure><img src="{source}" alt="{escape(alt)}"><figcaption>{escape(caption)}</figcaption></figure>'
        case _:
            return f"<p>{_cell(block)}</p>"


def _cell(text: str) -> str:
    shown = escape(_visible(text))
    return f"<code>{shown}</code>" if isinstance(text, Code) else shown


def _markdown(block: Block, images: dict[str, Image]) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_plain(text)}"
        case Table(head, rows):
            top, *body = ([_plain(cell) for cell in row] for row in (head, *rows))
            lines = [top, ["---"] * len(head), *body]
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)
        case Picture(name, caption):
            return f"![{_plain(images[name][1])}](figures/{name}.png)\n\n{_plain(caption)}"
        case _:
            return _plain(block)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line, wherever it stands."""
    return escape(re.sub(r"([\\`*_\[\]|~$])", r"\\\1", _visible(text)), quote=False).replace("\n", "<br>")


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head><body><main>
{body}
</main></body></html>
"""
STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --paper: #fff; --soft: #f3f4f6; --line: #d0d4da }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e8; --paper: #17181b; --soft: #24262b; --line: #43474f } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 960px; margin: 0 auto; padding: 1rem 1.25rem 4rem }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem; border-bottom: 1px solid var(--line) }
td { white-space: pre-line }
thead th { background: var(--soft) }
code { font: .86rem/1.45 "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere }
figure { margin: 1.5rem 0 }
img { width: 100%; max-width: 900px; background: #fff; border-radius: 6px }
"""
