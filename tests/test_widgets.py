"""The widgets, driven as a reader would: values set, buttons pressed, what is shown read; model output is text and never markup."""

import ast
import inspect
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import ipywidgets
import pytest
import torch

from ftlab import evaluate_outputs, plots, widgets
from ftlab.artifact import save_adapter_weights, write_lineage
from ftlab.errors import DataError, UsageError
from ftlab.evaluate import check_record
from ftlab.generate import Generation
from ftlab.labelling import CHOICES, MOVES, read_labels
from ftlab.ladder import climb
from ftlab.lora import add_lora
from ftlab.models import load_model
from ftlab.nexttoken import next_logits, said, story_ids
from ftlab.notebook import tidy
from ftlab.readme import ROOT
from ftlab.widgets import ErrorExplorer, MaskingXray, NextTokens, Playground
from ftlab.widgets.masking import next_trained, strip_html, told
from ftlab.widgets.parts import View, safe, visible
from ftlab.widgets.tokens import quoted
from ftlab.xray import Position

EVIL = "<script>alert('x')</script><img src=x onerror=\"alert(1)\"> $x$ & \u202eno\x1b[1m"
VIEW = "application/vnd.jupyter.widget-view+json"


class Markup(HTMLParser):
    """What a page would make of HTML: its elements with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def everything(widget):
    """A box and all that is in it."""
    return [widget, *(inner for child in getattr(widget, "children", ()) for inner in everything(child))]


def shown(view):
    """All HTML that a view shows."""
    return "".join(w.value for w in everything(view.box) if isinstance(w, ipywidgets.HTML))


def reads(html):
    return Markup(html).text


def only_harmless(view):
    """No element of the model's making is shown, and nothing that could run."""
    found = Markup(shown(view))
    assert {tag for tag, _ in found.tags} <= {"section", "b", "i", "div", "span", "small"}
    assert not any(name.startswith("on") or name in ("src", "href") for _, attrs in found.tags for name in attrs)
    return found.text


@pytest.fixture
def adapter(tmp_path):
    """A random adapter for the tiny model."""
    tiny = load_model("tiny")
    model = add_lora(tiny.model, rank=2, alpha=4, seed=1)
    torch.manual_seed(1)
    for key, p in model.named_parameters():
        torch.nn.init.normal_(p, std=0.3) if "lora_B" in key else None
    save_adapter_weights(model, tmp_path / "adapter")
    write_lineage(tmp_path / "adapter", {"base": {"model": "tiny", "sha256": tiny.sha256}})
    return tmp_path / "adapter"


@pytest.fixture
def answers(monkeypatch):
    """The playground's models answer with these texts in turn, the untuned one first."""
    queue = []

    def instead(loaded, chats, **options):
        return [Generation(queue.pop(0), 1, 1, True) for _ in chats], 0

    monkeypatch.setattr("ftlab.sidebyside.cached_generate", instead)
    return queue


@pytest.fixture
def records(toy_task):
    rows = toy_task.rows("train")[:3]
    good = json.dumps({"intent": rows[0].output["intent"], "number": rows[0].output["number"], "say": "Hi."})
    return evaluate_outputs(toy_task, rows, [good, EVIL, good])["rows"]


@pytest.fixture
def explorer(toy_task, records, tmp_path):
    return ErrorExplorer(toy_task.rows("train"), records, tmp_path / "labels.jsonl", rater="ann")


# --- what all share


def test_a_text_from_outside_is_shown_letter_by_letter():
    found = Markup(safe(EVIL))
    assert found.tags == [] and found.text == EVIL.replace("\u202e", "\\u202e").replace("\x1b", "\\u001b")
    assert visible("a\n\tß 👩‍👧 \ud800") == "a\n\tß 👩‍👧 \\ud800"


def test_every_public_widget_is_a_view_and_core_ipywidgets_only(tiny, toy_task, adapter, explorer):
    assert widgets.__all__ == sorted(widgets.__all__) and all(issubclass(getattr(widgets, n), View) for n in widgets.__all__)
    for view in (NextTokens(tiny), MaskingXray(tiny, toy_task), Playground(tiny, toy_task, adapter), explorer):
        assert {type(w).__module__.partition(".")[0] for w in everything(view.box)} == {"ipywidgets"}
        assert {w._model_module for w in everything(view.box)} == {"@jupyter-widgets/controls"}


def test_every_control_has_words_for_a_screen_reader_and_none_leaves_the_order_of_tabs(tiny, toy_task, adapter, explorer):
    for view in (NextTokens(tiny), MaskingXray(tiny, toy_task), Playground(tiny, toy_task, adapter), explorer):
        controls = [w for w in everything(view.box) if not isinstance(w, (ipywidgets.HTML, ipywidgets.Box))]
        assert controls and all(w.description for w in controls)
        assert all(w.tooltip for w in controls if isinstance(w, ipywidgets.Button))
        assert all(w.tabbable is None for w in controls)  # the page's own order
        for tag, attrs in Markup(shown(view)).tags:
            assert tag != "section" or attrs["aria-label"]


def test_a_notebook_gets_the_widget_its_picture_with_alt_text_and_its_text(tiny):
    view = NextTokens(tiny)
    data, metadata = view._repr_mimebundle_()
    assert data[VIEW]["model_id"] == view.box.model_id and data["text/plain"] == view.text()
    assert data["image/png"].startswith("iVBOR") and metadata["image/png"]["alt"] == view.figure().get_label()


def test_without_ipywidgets_the_way_to_get_it_is_told():
    code = "import sys; sys.modules['ipywidgets'] = None\nimport ftlab.widgets"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "UsageError: the widgets need ipywidgets, which is not installed; run: pip install 'ftlab[notebooks]'" in told


# --- next tokens


def test_a_click_goes_on_with_the_token_and_back_takes_it_away(tiny):
    view = NextTokens(tiny, "Hello")
    first = view.found.candidates[2]
    view.tokens[2].click()
    assert view.story.taken == (first,) and reads(view.written.value).endswith("Hello ▸ " + said(tiny, view.story))
    expected = next_logits(tiny, story_ids(tiny, view.story)).softmax(-1).max().item()
    assert view.found.candidates[0].probability == pytest.approx(expected)
    view.back.click()
    assert view.story.taken == () and view.back.disabled and "1 tokens taken" not in reads(view.summary.value)


def test_the_temperature_asks_for_no_new_pass_through_the_model(tiny, monkeypatch):
    view = NextTokens(tiny, "Hello")
    sharp = view.found.candidates[0].probability
    monkeypatch.setattr(tiny.model, "forward", lambda *args, **kwargs: pytest.fail("the model was asked again"))
    view.temperature.value = 0.2
    assert (
        view.found.candidates[0].probability > sharp and f"{100 * view.found.candidates[0].probability:.1f} %" in view.bars[0].value
    )
    monkeypatch.undo()
    view.draw.click()  # the text has changed: this does ask
    assert len(view.story.taken) == 1


def test_a_model_can_be_changed_and_keeps_the_text(tiny, adapter):
    from ftlab.artifact import apply_adapter

    tuned = load_model("tiny")
    apply_adapter(tuned, adapter)
    view = NextTokens({"base": tiny, "tuned": tuned}, "Hello")
    before, token = view.found, view.found.candidates[0]
    view.tokens[0].click()
    view.model.value = "tuned"
    assert view.story.taken == (token,) and "tuned" in view.text()
    view.back.click()
    assert view.found.candidates != before.candidates


def test_an_empty_text_is_told_and_the_next_one_works(tiny):
    view = NextTokens(tiny, "Hello")
    view.prompt.value = " "
    view.start.click()
    assert "expected a text to continue" in reads(view.status.value) and 'role="alert"' in view.status.value
    assert view.found is None and view.draw.disabled and all(t.disabled for t in view.tokens) and view.figure() is None
    view.prompt.value, view.chat.value = "Hi", True
    view.start.click()
    assert view.status.value == "" and view.story.chat and not view.tokens[0].disabled


def test_an_ended_answer_offers_no_further_token(tiny):
    view = NextTokens(tiny, "Hello")
    end = SimpleNamespace(token_id=tiny.tokenizer.eos_token_id, token="<|im_end|>", probability=0.5)
    view._go(end)
    assert all(t.disabled for t in view.tokens) and view.draw.disabled and "ended its answer" in reads(view.summary.value)
    assert "<|im_end|>" in only_harmless(view)


def test_a_token_shows_its_spaces():
    assert quoted(" the\n") == "“␣the↵”" and quoted("\x00") == "“\\u0000”"


def test_wrong_calls_of_the_next_token_explorer_are_told(tiny):
    for call, says in (
        (lambda: NextTokens({}), "expected at least one loaded model"),
        (lambda: NextTokens(tiny, k=0), "expected 1 to 20 tokens to show, found 0"),
        (lambda: NextTokens(tiny, ""), "expected a text to continue"),
    ):
        with pytest.raises(UsageError, match=says):
            call()


# --- masking X-ray


def test_the_strip_marks_exactly_the_tokens_that_carry_loss(tiny, toy_task):
    view = MaskingXray(tiny, toy_task)
    spans = [attrs for tag, attrs in Markup(view.strip.value).tags if tag == "span"]
    assert ["bold" in s["style"] for s in spans] == [p.loss is not None for p in view.positions]
    assert reads(view.strip.value).startswith("<|im_start|>system↵\n")
    view.masking.value = "everything"
    spans = [attrs for tag, attrs in Markup(view.strip.value).tags if tag == "span"]
    assert ["bold" in s["style"] for s in spans] == [False] + [True] * (len(spans) - 1)


def test_the_pointer_walks_through_tokens_with_loss(tiny, toy_task):
    view = MaskingXray(tiny, toy_task)
    assert "It is masked" in reads(view.detail.value)
    view.next.click()
    first = next(p for p in view.positions if p.loss is not None)
    assert view.at.value == first.at and f"a loss of {first.loss:.2f} nats" in reads(view.detail.value)
    assert next_trained(view.positions, len(view.positions) - 1) == first.at and next_trained(view.positions[:3], 1) == 1
    assert "The model gives it 50.0 % here" in told(Position(1, 1, "x", "answer", 1, 1.0, 0.6931472))


def test_another_row_and_weight_are_computed_once(tiny, toy_task, monkeypatch):
    import ftlab.widgets.masking as module

    calls, real = [], module.masked_xray
    monkeypatch.setattr(module, "masked_xray", lambda *args: calls.append(args[2].id) or real(*args))
    view = MaskingXray(tiny, toy_task, toy_task.rows("validation")[:2])
    first, second = view.rows
    view.at.value = len(view.positions) - 1
    for row in (second, first, second):
        view.row.value = row
    assert calls == [first, second] and view.found.rows[0].row == second and view.at.value <= view.at.max == len(view.positions) - 1
    view.weight.value = 0.0
    assert len(calls) == 3 and "0.00000" in view.text()


def test_a_row_that_is_too_long_is_told_and_the_one_before_stays(tiny, toy_task):
    rows = sorted(toy_task.rows("validation"), key=lambda row: len(row.text) + len(toy_task.completion(row)))
    short, long = rows[0], rows[-1]
    limit = len(MaskingXray(tiny, toy_task, [short]).positions)
    view = MaskingXray(tiny, toy_task, [short, long], max_length=limit)
    view.row.value = long.id
    assert f"longer than {limit} tokens" in reads(view.status.value) and view.found.rows[0].row == short.id
    with pytest.raises(DataError, match="longer than 5 tokens"):
        MaskingXray(tiny, toy_task, max_length=5)


def test_a_row_with_markup_is_text(tiny, toy_task):
    from dataclasses import replace

    row = replace(toy_task.rows("validation")[0], input=EVIL)
    assert "<script>" in only_harmless(MaskingXray(tiny, toy_task, [row]))
    assert "<script>" in reads(strip_html([Position(0, 1, "<script>", "user")], 0))  # a token of more than one letter


# --- playground


def test_a_script_in_a_reply_is_text(tiny, toy_task, adapter, answers):
    view = Playground(tiny, toy_task, adapter, message=EVIL)
    answers += [EVIL, EVIL]
    view.answer.click()
    view.all.click()
    text = only_harmless(view)
    assert text.count("<script>alert('x')</script>") >= 2
    data, metadata = view._repr_mimebundle_()
    assert "<script>" in data["text/plain"] and "\u202e" not in data["text/plain"] + metadata["image/png"]["alt"]


def test_the_ladder_is_lit_rung_by_rung_on_both_answers(tiny, toy_task, adapter, answers):
    view = Playground(tiny, toy_task, adapter, message="case 12")
    good = '{"intent": "login", "number": "12", "say": "Hi."}'
    answers += ["Sure!", good]
    assert view.next.disabled and "not asked yet" in reads(view.columns["untuned"].value)
    view.answer.click()
    assert reads(view.columns["untuned"].value).endswith("Sure!") and reads(view.columns["tuned"].value).endswith(good)
    assert "no rung lit" in reads(view.ladders["tuned"].value)
    view.next.click()
    assert "✗ parse" in reads(view.ladders["untuned"].value) and "✓ parse" in reads(view.ladders["tuned"].value)
    assert "schema" not in reads(view.ladders["tuned"].value) and "schema: does the object fit" in reads(view.question.value)
    for _ in range(4):
        view.next.click()
    assert "✓ policy passed" in reads(view.ladders["tuned"].value) and view.next.disabled and view.all.disabled
    assert "– field  not judged" in reads(view.ladders["untuned"].value)
    assert "no label" in reads(view.ladders["tuned"].value)
    assert "tuned: parse passed, schema passed" in view.figure().get_label()


def test_a_rows_own_message_is_held_against_its_label_and_a_changed_one_is_not(tiny, toy_task, adapter, answers):
    row = toy_task.rows("validation")[0]
    view = Playground(tiny, toy_task, adapter, rows=[row])
    wrong = json.dumps(row.output | {"intent": "other" if row.output["intent"] != "other" else "login"})
    view.row.value = row.id
    assert view.message.value == row.text
    for message, state in ((row.text, "broken"), (row.text + "!", "passed")):
        view.message.value = message
        answers += [wrong, wrong]
        view.answer.click()
        assert {step.rung: step.state for step in view.answers["tuned"][1]}["field"] == state


def test_both_models_really_answer_and_the_base_is_as_before(tiny, toy_task, adapter):
    state = {k: v.clone() for k, v in tiny.model.state_dict().items()}
    view = Playground(tiny, toy_task, adapter, message="case 12", max_new_tokens=8)
    view.answer.click()
    assert view.answers["untuned"][0] != view.answers["tuned"][0] and view.status.value == ""
    assert all(torch.equal(v, state[k]) for k, v in tiny.model.state_dict().items())


def test_bad_messages_and_adapters_are_told(tiny, toy_task, adapter, tmp_path):
    view = Playground(tiny, toy_task, adapter)
    assert view.figure() is None and "not answered yet" in view.text() and "image/png" not in view._repr_mimebundle_()[0]
    view.message.value = "\n"
    view.answer.click()
    assert "expected a message to answer, found an empty one" in reads(view.status.value) and not view.answer.disabled
    view.message.value = "word " * 2000
    view.answer.click()
    assert "shorten the message" in reads(view.status.value)
    with pytest.raises(UsageError, match="ships no adapter"):
        Playground(tiny, toy_task)
    write_lineage(adapter, {"base": {"model": "another", "sha256": "0"}})
    with pytest.raises(UsageError, match="was made for another"):
        Playground(tiny, toy_task, adapter)


# --- error explorer


def test_a_click_labels_says_what_the_checker_says_and_goes_on(explorer):
    explorer.note.value = "as it should be"
    explorer.choices["pass"].click()
    (label,) = read_labels(explorer.path)
    assert (label.label, label.rater, label.checker, label.note, label.saw_checks) == (
        "pass",
        "ann",
        "pass",
        "as it should be",
        False,
    )
    assert "you say pass, the checker says pass" in reads(explorer.status.value) and explorer.note.value == ""
    assert "2 of 3" in reads(explorer.place.value) and "1 of 3 labelled" in reads(explorer.summary.value)


def test_letters_typed_are_keys_and_the_field_is_emptied(explorer):
    explorer.key.set_state({"value": "p"})  # as the browser sends it
    explorer.key.set_state({"value": "F"})
    assert [label.label for label in read_labels(explorer.path)] == ["pass", "format"] and explorer.key.value == ""
    explorer.key.set_state({"value": "bx"})
    assert [label.label for label in read_labels(explorer.path)] == ["pass"]
    explorer.key.set_state({"value": "q"})
    assert "key: expected one of" in reads(explorer.status.value) and len(read_labels(explorer.path)) == 1


def test_the_checkers_verdict_is_hidden_until_the_label_or_the_wish(explorer):
    explorer.moves["next"].click()
    assert "shown when you have labelled" in reads(explorer.checker.value)
    explorer.verdict.value = True
    assert "✗ parse" in reads(explorer.checker.value)
    explorer.choices["format"].click()
    assert read_labels(explorer.path)[0].saw_checks


def test_who_chooses_by_fault_has_seen_the_verdict(explorer):
    explorer.code.value = "not_json"
    assert "1 of 1" in reads(explorer.place.value) and "✗ parse" in reads(explorer.checker.value)
    explorer.choices["format"].click()
    assert read_labels(explorer.path)[0].saw_checks
    explorer.cause.value = "safety"
    assert "none of this kind" in reads(explorer.place.value) and explorer.choices["pass"].disabled
    assert "0 of 0 labelled." in explorer.text()


def test_an_answer_with_markup_is_text_and_so_is_a_note(explorer):
    explorer.moves["next"].click()
    explorer.note.value = "<script>"
    explorer.choices["safety"].click()
    explorer.moves["back"].click()
    text = only_harmless(explorer)
    assert "<script>alert('x')</script>" in text and "labelled safety (<script>)" in text


def test_labels_are_there_again_and_those_of_another_answer_are_told(toy_task, records, explorer):
    explorer.choices["unsure"].click()
    rows = toy_task.rows("train")
    again = ErrorExplorer(rows, records, explorer.path, rater="ann")
    assert again.session.at == 1 and "1 of 3 labelled, 1 of them unsure" in again.text()
    assert "0 of 3 labelled" in ErrorExplorer(rows, records, explorer.path, rater="bob").text()
    other = ErrorExplorer(rows, [records[0] | {"output": "another"}, *records[1:]], explorer.path, rater="ann")
    assert "1 label(s) in labels.jsonl are about other answers" in reads(other.status.value) and "0 of 3 labelled" in other.text()


def test_a_label_that_cannot_be_written_is_not_shown_as_given(explorer):
    explorer.path.mkdir()
    explorer.choices["pass"].click()
    assert "expected a file of labels" in reads(explorer.status.value) and explorer.session.labels == {}


def test_without_a_file_labels_are_kept_in_the_session(toy_task, records, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    view = ErrorExplorer(toy_task.rows("train"), records)
    view.choices["pass"].click()
    assert len(view.session.labels) == 1 and not list(tmp_path.rglob("*.jsonl*"))[1:]


def test_wrong_calls_of_the_error_explorer_are_told(toy_task, records):
    rows = toy_task.rows("train")
    with pytest.raises(DataError, match="records of other rows"):
        ErrorExplorer(rows[:1], records)
    with pytest.raises(UsageError, match="cause: expected one of all"):
        ErrorExplorer(rows, records, cause="everything")
    with pytest.raises(UsageError, match="rater: expected a name"):
        ErrorExplorer(rows, records, rater=" ")


# --- the figures that stand in for them


def test_the_bars_of_the_next_token_add_up_to_one(tiny):
    figure = plots.next_token_bars(NextTokens(tiny, "Hello", k=4).found, "tiny")
    assert sum(bar.get_width() for bar in figure.axes[0].patches) == pytest.approx(100)
    assert re.search(r"others \d+\.\d %; entropy \d\.\d bits", figure.get_label())


def test_the_ladder_figure_tells_states_and_faults(toy_task):
    errors = check_record("x", toy_task.checker.check("Sure!", "hi"))["errors"]
    figure = plots.ladder_steps({"untuned": climb(errors, False), "tuned": climb([], True)}, "hi")
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said[0].startswith("broken: not exactly one JSON") and said[1] == "not judged: a rung below is broken"
    assert figure.get_label().endswith("tuned: parse passed, schema passed, rule passed, field passed, policy passed.")


def test_the_review_figure_counts_labels_by_cause(explorer):
    explorer.choices["pass"].click()
    explorer.choices["safety"].click()
    label = explorer.figure().get_label()
    assert "2 of 3 answers labelled" in label and "format: safety 1" in label and "pass: pass 1" in label


def test_a_stored_notebook_keeps_what_stands_in_for_a_widget_and_not_the_widget(tiny):
    """A stored widget would only say that its kernel is gone."""
    data, metadata = NextTokens(tiny)._repr_mimebundle_()
    outputs = [
        {"output_type": "stream", "name": "stderr", "text": "50 %"},
        {"output_type": "execute_result", "data": data, "metadata": metadata},
        {"output_type": "stream", "name": "stdout", "text": "do"},
        {"output_type": "stream", "name": "stdout", "text": "ne"},
    ]
    stored, told = tidy(outputs)
    assert set(stored["data"]) == {"image/png", "text/plain"} and told["text"] == "done"


# --- the document


def test_the_documented_lines_are_calls_that_the_widgets_take():
    text = (ROOT / "docs" / "widgets.md").read_text(encoding="utf-8")
    calls = [
        node
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in widgets.__all__
    ]
    assert {call.func.id for call in calls} == set(widgets.__all__)
    for call in calls:
        inspect.signature(getattr(widgets, call.func.id)).bind(*call.args, **{k.arg: k.value for k in call.keywords})


def test_the_documented_keys_are_the_keys():
    text = (ROOT / "docs" / "widgets.md").read_text(encoding="utf-8")
    told = " ".join(re.search(r"\((p pass.*?)\)", text, re.DOTALL)[1].split())
    assert told == ", ".join(f"{key} {what}" for key, what in (CHOICES | MOVES).items())
