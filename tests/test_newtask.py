"""A task folder of a user's rows: what the rows say is declared, what they cannot is told, and bad input is one clear sentence."""

import json

import pytest

from ftlab import load_task
from ftlab.cli import main
from ftlab.course.own import opened, profile_name
from ftlab.errors import DataError, UsageError
from ftlab.newtask import EXAMPLE, new_task
from ftlab.newtask.derive import derive
from ftlab.newtask.folder import cut
from ftlab.newtask.table import read_table
from ftlab.rows import Row
from ftlab.task import file_sha256

KINDS = ("rent", "sale", "repair")


def records(n=60):
    """n flat rows: a closed set, a copied text that is sometimes missing, a number, a truth and free text."""
    found = []
    for i in range(n):
        place = f"Lane {i}" if i % 4 else None
        text = f"{KINDS[i % 3]} of a boat, number {i}" + (f", lies at {place}" if place else "")
        output = {
            "kind": KINDS[i % 3],
            "place": place,
            "metres": i % 7,
            "new": i % 2 == 0,
            "reply": f"Thank you, we will call about boat {i}.",
        }
        found.append({"text": text} | output)
    return found


def write(path, lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def made(tmp_path):
    return new_task(tmp_path / "boats", write(tmp_path / "rows.jsonl", records()))


def test_types_closed_sets_and_required_keys_are_read_off_the_rows(made):
    schema = json.loads((made.folder / "schema.json").read_text())
    assert schema["title"] == "boats" and schema["additionalProperties"] is False
    assert list(schema["properties"]) == ["kind", "place", "metres", "new", "reply"]  # the order of the columns
    assert schema["required"] == ["kind", "metres", "new", "reply"]  # place has no value in a quarter of the rows
    assert schema["properties"]["kind"]["enum"] == sorted(KINDS)
    assert [schema["properties"][key]["type"] for key in ("place", "metres", "new")] == ["string", "integer", "boolean"]


def test_rules_are_those_that_no_row_breaks(made):
    declared = json.loads((made.folder / "rules.json").read_text())
    assert {(rule["rule"], rule["path"]) for rule in declared["rules"]} == {
        ("copied_from_input", "place"), ("copied_from_input", "kind"), ("known_values", "reply"), ("sentence_count", "reply"),
    }  # fmt: skip
    assert declared["fields"] == ["kind", "place", "metres", "new"] and declared["key_order"][-1] == "reply"


def test_one_value_that_is_not_copied_is_told_with_its_line_and_no_rule_is_declared():
    rows = [Row(f"r{i}", f"at Lane {i}", {"place": f"Lane {i}"}, where=f"f.csv:{i}") for i in range(30)]
    assert [rule["rule"] for rule in derive(rows, "x").rules] == ["copied_from_input"]
    rows[7].output["place"] = "Elsewhere"
    found = derive(rows, "x")
    assert "copied_from_input" not in [rule["rule"] for rule in found.rules]
    assert any("1 of 30 values (f.csv:7)" in said for said in found.left)


def test_the_folder_loads_and_its_test_set_is_frozen(made):
    task = load_task(made.folder)
    assert task.derived == () and task.class_field == "kind"
    assert (made.folder / "test.sha256").read_text().split()[0] == file_sha256(made.folder / "test.jsonl")
    path = made.folder / "test.jsonl"
    path.write_text(path.read_text().replace("we will call", "we shall call", 1))
    with pytest.raises(DataError, match="frozen test set has changed"):
        load_task(made.folder)


def test_the_parts_hold_all_rows_once_and_each_class_in_its_share(made):
    task = load_task(made.folder)
    ids = [row.id for split in task.splits.values() for row in split]
    assert sorted(ids) == [f"r{i:04d}" for i in range(1, 61)]
    for split, each in (("test", 4), ("validation", 4), ("train", 12)):  # 20 rows of a class, a fifth of them 4
        assert [sum(row.output["kind"] == kind for row in task.rows(split)) for kind in KINDS] == [each] * 3


def test_the_cut_depends_on_the_texts_alone_and_keeps_equal_texts_together():
    rows = [Row(f"r{i}", f"text {i // 2}", {"kind": KINDS[i // 2 % 3]}) for i in range(120)]
    parts, again = cut(rows, "kind"), cut([Row(f"x{row.id}", f"  {row.text.upper()}", row.output) for row in rows[::-1]], "kind")
    for split in parts:
        assert {row.text for row in parts[split]} == {row.text.strip().lower() for row in again[split]}
    texts = [{row.text for row in part} for part in parts.values()]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]


def test_csv_and_jsonl_of_the_same_rows_make_the_same_task(tmp_path, made):
    cells = [["text", "kind", "place", "metres", "new", "reply"]]
    cells += [[r["text"], r["kind"], r["place"] or "", str(r["metres"]), str(r["new"]).lower(), r["reply"]] for r in records()]
    csv = write(tmp_path / "rows.csv", [";".join(line) for line in cells])  # the replies hold commas
    other = new_task(tmp_path / "other" / "boats", csv)
    for name in ("schema.json", "rules.json", "train.jsonl", "test.jsonl", "validation.jsonl", "prompt_long.txt"):
        assert (other.folder / name).read_text() == (made.folder / name).read_text(), name


def test_rows_as_in_a_task_folder_keep_ids_tags_and_nested_values(tmp_path):
    rows = [
        {"id": f"b{i}", "input": f"order {i}, call +1{i:03d}", "tags": ["edge"], "lang": "en",
         "output": {"kind": KINDS[i % 3], "values": {"order": str(i), "phone": f"+1{i:03d}"} if i % 2 else {"order": str(i)}}}
        for i in range(40)
    ]  # fmt: skip
    task = load_task(new_task(tmp_path / "t", write(tmp_path / "r.jsonl", rows)).folder)
    assert "values.*" in task.fields and task.rows("test")[0].tags == ("edge",) and task.rows("test")[0].id.startswith("b")
    assert task.schema["properties"]["values"]["required"] == ["order"]


def test_what_the_rows_leave_open_is_told():
    rows = [Row(f"r{i}", f"text {i}", {"a": "yes" if i % 2 else "no", "b": f"s{i % 12}"}, where=f"f:{i}") for i in range(40)]
    rows += [Row("x", "TEXT  1", {"a": "no", "b": "s1"}, where="f:40"), Row("y", "other", {"a": "No", "b": "s2"}, where="f:41")]
    said = "\n".join(derive(rows, "x").left)
    assert "one text with different answers: f:1, f:40" in said and "repeat the text" in said
    assert "'no' is spelt in 2 ways" in said and "only one row has 'No'" in said
    assert "b: 12 different texts in 42 values" in said


def test_a_numbers_column_with_leading_zeros_stays_text(tmp_path):
    lines = ["text,code,price"] + [f"part {i},00{i},{i}.50" for i in range(40)]
    row = read_table(write(tmp_path / "r.csv", lines)).rows[7]
    assert row.output == {"code": "007", "price": 7.5}


def test_the_text_is_found_by_name_or_length_and_can_be_named(tmp_path):
    path = write(tmp_path / "r.csv", ["kind,what people wrote"] + [f"{KINDS[i % 3]},a longer text {i}" for i in range(40)])
    assert read_table(path).rows[0].text == "a longer text 0" and "longest texts" in read_table(path).said[0]
    assert read_table(path, "kind").rows[0].text == "rent"
    with pytest.raises(UsageError, match="--text note: expected one of the columns kind, what people wrote"):
        read_table(path, "note")


BAD = {
    "empty": (b"", "expected labelled rows, found none"),
    "latin": ('{"text": "caf\xe9"}'.encode("latin-1"), "expected a UTF-8 text file, found byte 14 to be none; save it as UTF-8"),
    "no json": (b'{"text": "x", "a": 1}\nhello\n', "rows.jsonl:2: expected one JSON object a line, found 'hello'"),
    "a list": (b"[1]\n", "rows.jsonl:1: expected one JSON object a line"),
    "unequal": (b'{"text": "x", "a": 1}\n{"text": "y"}\n', r"rows.jsonl:2: expected the keys .* found no a; write null"),
    "a key more": (b'{"text": "x", "a": 1}\n{"text": "y", "a": 1, "b": 2}\n', "found also b"),
    "no text": (b'{"a": 1, "b": 2}\n', "expected a column with a text in every row"),
    "an empty text": (b'{"text": "x", "a": 1}\n{"text": " ", "a": 1}\n', "rows.jsonl:2: expected a text under 'text', found ' '"),
    "no answer": (b'{"text": "x"}\n', "expected columns with the answer beside 'text', found none"),
    "few": (b'{"text": "x", "a": 1}\n', "expected at least 30 labelled rows, found 1"),
    "one text": (b'{"text": "x", "a": 1}\n' * 40, "expected enough different texts to cut validation and test rows from, found 1"),
    "half a sign": (b'{"text": "x \\ud800", "a": 1}\n', "rows.jsonl:1: expected numbers and whole characters"),
    "no number": (b'{"text": "x", "a": NaN}\n', "rows.jsonl:1: expected numbers and whole characters"),
    "bad input": (b'{"input": 7, "output": {"a": 1}}\n', "rows.jsonl:1: expected input to be a text or a list of chat messages"),
    "same ids": (
        b'{"id": "a", "input": "x", "output": {"a": 1}}\n' * 2,
        "expected an id of its own in each row, found 'a' 2 times",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_one_sentence_and_leave_nothing_behind(tmp_path, name):
    content, says = BAD[name]
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=says):
        new_task(tmp_path / "t", tmp_path / "rows.jsonl")
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["text,a", "x,1", "y,2,3"], "rows.csv:3: expected 2 cells as in the first line, found 3"),
        (["text,a,a", "x,1,2"], "rows.csv:1: expected a name of its own for each column, found 'a' twice"),
        (["text,,a", "x,1,2"], "found an empty one"),
        (["text,a", '"x,1'], "expected a line of CSV, found a fault"),
    ],
)
def test_a_broken_csv_line_is_named(tmp_path, lines, says):
    with pytest.raises(DataError, match=says):
        read_table(write(tmp_path / "rows.csv", lines))


def test_the_command_makes_the_example_says_what_is_next_and_never_overwrites(tmp_path, capsys):
    folder = str(tmp_path / "orders")
    assert main(["new-task", folder, "--example"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-3:] == [
        f"  ftlab data check {folder}",
        f"  ftlab choose {folder}",
        f"  ftlab run {folder} --profile smoke",
    ]
    before = {path.name: path.read_bytes() for path in (tmp_path / "orders").iterdir()}
    assert main(["new-task", folder, "--example"]) == 2
    assert "expected a name that is free, found a folder" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "orders").iterdir()} == before


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ([], 2, "expected --from FILE with labelled rows, or --example"),
        (["--from", "none.csv"], 1, "expected a file of labelled rows, found no file"),
        (["--from", "rows.xlsx"], 2, "expected a .csv or .jsonl file, found .xlsx; save the rows as CSV"),
    ],
)
def test_a_wrong_call_is_told(tmp_path, monkeypatch, capsys, options, status, says):
    monkeypatch.chdir(tmp_path)
    assert main(["new-task", "t", *options]) == status
    assert says in capsys.readouterr().err and not (tmp_path / "t").exists()


def test_the_example_is_a_hundred_and_twenty_different_notes_that_keep_their_rules(tmp_path, capsys):
    made = new_task(tmp_path / "work_orders")
    task = load_task(made.folder)
    rows = [row for split in task.splits.values() for row in split]
    assert len({row.text for row in rows}) == len(rows) == 120 and EXAMPLE.name == "shift_notes.csv"
    assert {"copied_from_input", "known_values", "sentence_count"} == {rule["rule"] for rule in task.rules}
    assert all(len({row.output["fault"] for row in task.rows(split)}) == 7 for split in task.splits)
    assert main(["data", "check", str(made.folder)]) == 0, capsys.readouterr().out


def test_the_documents_say_what_is_known_and_mark_what_is_not(made):
    specification, card = ((made.folder / name).read_text() for name in ("specification.md", "DATA_CARD.md"))
    assert "| `place` | (write) | no | schema (type), copy check, comparison with the label |" in specification
    assert "## `kind`: which value when" in specification and "the wording of `reply`" in specification
    assert "| rent | 12 | 4 | 4 |" in card and "**Licence.** (write)" in card
    assert (made.folder / "test.sha256").read_text().split()[0] in card


def test_a_task_without_a_closed_set_runs_to_a_report(tmp_path):
    lines = ["text,place,reply"] + [f"boat {i} lies at Lane {i * 7},Lane {i * 7},We look for boat {i}." for i in range(40)]
    made = new_task(tmp_path / "boats", write(tmp_path / "r.csv", lines))
    assert any("there is no class" in said for said in made.left)
    assert main(["run", str(made.folder), "--profile", "smoke", "--out", str(tmp_path / "run")]) == 0
    systems = json.loads((tmp_path / "run" / "results.json").read_text())["systems"]
    assert systems["tfidf"]["scores"]["schema_valid"]["share"] == 1  # a neighbour's whole answer has the form


def test_a_folder_in_the_notebook_is_taken_as_it_is_or_made(tmp_path, made, capsys):
    assert opened(str(made.folder), "none.csv") == made.folder
    assert opened(str(tmp_path / "more"), str(tmp_path / "rows.jsonl")) == tmp_path / "more"
    assert "more: made of rows.jsonl" in capsys.readouterr().out
    with pytest.raises(UsageError, match="expected a built-in task"):
        opened(str(tmp_path / "nothing"))


def test_a_rehearsal_is_run_unless_a_profile_or_live_is_asked_for(monkeypatch):
    monkeypatch.delenv("FTLAB_SPEED", raising=False)
    assert (profile_name(), profile_name("cpu")) == ("smoke", "cpu")
    monkeypatch.setenv("FTLAB_SPEED", "live")
    assert profile_name() == "cpu"
    with pytest.raises(UsageError, match="--profile"):
        profile_name("fast")
