"""`ftlab data dedupe`, `noise` and `mix`: what they write, what they count, and what they leave alone."""

import json
from collections import Counter

import pytest
from conftest import toy_rows
from test_datatools_check import varied, write

from ftlab import load_task
from ftlab.checks import Check, Checker, Problem, normalize
from ftlab.cli import main
from ftlab.datatools.dedupe import dedupe
from ftlab.datatools.mix import mix, source_file
from ftlab.datatools.noise import _LAYOUTS, KINDS, Guard, add_noise, neighbours
from ftlab.datatools.sets import load_sets
from ftlab.datatools.similar import Pair, near_pairs
from ftlab.errors import DataError, UsageError

PLAN = load_sets("support_plan")


@pytest.fixture
def folder(toy_folder):
    for stem in ("train", "validation", "test"):
        write(toy_folder, stem, varied(stem))
    return toy_folder


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_dedupe_drops_each_kind_for_its_reason_and_keeps_twins(folder):
    train, (held, *_) = varied("train"), varied("test")
    exact = train[0] | {"id": "exact", "input": train[0]["input"].upper()}
    near = train[1] | {"id": "near", "input": train[1]["input"].replace("where is", "wheres")}
    twin = train[1] | {"id": "twin", "output": train[1]["output"] | {"intent": "other"}, "input": train[1]["input"] + "!"}
    leak = held | {"id": "leak", "input": held["input"] + " please"}
    write(folder, "train", [*train, exact, near, twin, leak])
    kept, dropped, twins = dedupe(load_sets(folder), threshold=0.7)
    assert [record["id"] for record in kept] == [*(record["id"] for record in train), "twin"]
    assert [(d.where, d.reason, d.kept) for d in dropped] == [
        ("train.jsonl:10", "exact", "train.jsonl:1"), ("train.jsonl:11", "near", "train.jsonl:2"), ("train.jsonl:13", "held_out", "test.jsonl:1"),
    ]  # fmt: skip
    assert twins == 1


def test_after_dedupe_nothing_is_near_but_twins(toy_folder):
    again = [row | {"id": f"{row['id']}b", "input": row["input"] + "?"} for row in toy_rows(60)[::2]]
    write(toy_folder, "train", [*toy_rows(60), *again])
    kept, dropped, _ = dedupe(load_sets(toy_folder))
    assert len(kept) + len(dropped) == 90 and len(dropped) >= 30
    pairs = near_pairs([record["input"] for record in kept], 0.8)
    assert all(kept[pair.first]["output"] != kept[pair.second]["output"] for pair in pairs)


def test_a_row_dropped_for_a_held_out_one_takes_no_other_with_it(folder, monkeypatch):
    """Row 0 is alike to row 1 and to held-out row 9 (the first after nine rows), row 1 to row 0 only: without row 0, row 1 may stay."""
    train = varied("train")
    write(folder, "train", [train[0], train[0] | {"id": "b", "input": train[0]["input"] + " please"}, *train[2:]])
    monkeypatch.setattr("ftlab.datatools.dedupe.near_pairs", lambda *_: [Pair(0, 1, 0.9, "3-grams"), Pair(0, 9, 0.9, "3-grams")])
    kept, dropped, _ = dedupe(load_sets(folder))
    assert [(d.where, d.reason) for d in dropped] == [("train.jsonl:1", "held_out")] and kept[0]["id"] == "b"


def test_a_test_file_loses_nothing_to_the_training_rows(folder):
    write(folder, "train", [*varied("train"), varied("test")[0] | {"id": "leak", "input": varied("test")[0]["input"] + "!"}])
    _, dropped, _ = dedupe(load_sets(folder), "test")
    assert dropped == []


def test_dedupe_writes_elsewhere_and_says_which_and_why(folder, tmp_path, capsys):
    write(folder, "train", [*varied("train"), varied("train")[2] | {"id": "again"}])
    before = contents(folder)
    out = tmp_path / "new" / "kept.jsonl"
    assert main(["data", "dedupe", str(folder), "--out", str(out), "--json", str(tmp_path / "d.json")]) == 0
    said = capsys.readouterr().out
    assert "9 rows kept, 1 dropped" in said and "train.jsonl:10, 1.00 alike to train.jsonl:3" in said
    assert lines(out) == varied("train") and contents(folder) == before
    assert json.loads((tmp_path / "d.json").read_text())["reasons"] == {"exact": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_noise_changes_rows_and_no_label_or_value(kind):
    out, counts = add_noise(PLAN, "validation", 1.0, [kind], seed=1)
    assert counts["kinds"][kind] > 10 and len(out) == counts["rows"] == counts["changed"] + sum(counts["as_they_were"].values())
    for row, record in zip(PLAN.files["validation"], out, strict=True):
        assert (record["id"], record["output"]) == (row.id, row.output)
        text = (
            record["input"]
            if isinstance(record["input"], str)
            else "\n".join(m["content"] for m in record["input"] if m["role"] == "user")
        )
        assert PLAN.task.checker.check(json.dumps(row.output), text, lang=row.lang).ok, record
        changed = f"noise_{kind}" in record["tags"]
        assert (text != row.text) == changed
        assert all(normalize(v) in normalize(text) for k, v in row.output["entities"].items() if k != "card_last4")


def test_noise_is_the_same_for_the_same_seed_and_another_for_another():
    runs = [add_noise(PLAN, "validation", 0.3, seed=seed)[0] for seed in (4, 4, 5)]
    assert runs[0] == runs[1] != runs[2]


def test_a_rows_noise_does_not_depend_on_the_rows_beside_it(folder):
    whole, _ = add_noise(load_sets(folder), "test", 0.5, seed=2)
    write(folder, "test", varied("test")[4:])
    assert add_noise(load_sets(folder), "test", 0.5, seed=2)[0] == whole[4:]


def test_the_rate_is_the_share_of_rows_that_are_drawn():
    """Of n rows, (1 - 0.7³) n = 0.657 n are drawn for one of three kinds at least; with n = 201 that is 132, give or take 7."""
    _, counts = add_noise(PLAN, "validation", 0.3, ["casing", "punctuation", "typo"], seed=3)
    drawn = counts["rows"] - counts["as_they_were"]["not drawn"]
    assert counts["rows"] == 201 and abs(drawn - 132) < 4 * 7


def test_a_message_that_is_one_value_stays_as_it_was(folder):
    rules = {"rules": [{"rule": "copied_from_input", "path": "say", "code": "quote"}]}
    (folder / "rules.json").write_text(json.dumps(rules))
    rows = [row | {"output": row["output"] | {"say": row["input"]}} for row in varied("test")]
    for stem in ("train", "validation", "test"):
        write(folder, stem, rows if stem == "test" else [r | {"output": r["output"] | {"say": r["input"]}} for r in varied(stem)])
    out, counts = add_noise(load_sets(folder), "test", 1.0, ["typo", "fragment"])
    assert counts["changed"] == 0 and out == rows  # the whole message is a value, so no word may be touched


def test_a_chats_other_turns_stay(folder):
    chat = [{"role": "user", "content": "please undo that purchase number"}, {"role": "assistant", "content": "Which one is it?"},
            {"role": "user", "content": "it is number 9911, please hurry"}]  # fmt: skip
    row = varied("test")[0] | {"input": chat, "output": {"intent": "refund", "number": "9911", "say": "Thank you."}}
    write(folder, "test", [row])
    (record,), _ = add_noise(load_sets(folder), "test", 1.0)
    assert record["input"][1] == chat[1] and [m["role"] for m in record["input"]] == ["user", "assistant", "user"]
    assert record["input"][0] != chat[0] and "9911" in record["input"][2]["content"]


def test_only_the_first_message_of_a_chat_gets_a_greeting(folder):
    chat = [{"role": "user", "content": "undo it"}, {"role": "assistant", "content": "Which?"}, {"role": "user", "content": "9911"}]
    row = varied("test")[0] | {"input": chat, "output": {"intent": "refund", "number": "9911", "say": "Thank you."}}
    write(folder, "test", [row])
    (record,), _ = add_noise(load_sets(folder), "test", 1.0, ["code_switch"])
    assert record["input"][0] != chat[0] and record["input"][1:] == chat[1:]


def test_a_row_that_its_checker_refuses_afterwards_stays_as_it_was(folder, monkeypatch):
    sets = load_sets(folder)
    known = {row.text for row in sets.rows}
    refused = Check((Problem("rule", "changed", "", "the message is another"),))
    monkeypatch.setattr(Checker, "check", lambda self, output, text, **_: Check() if text in known else refused)
    out, counts = add_noise(sets, "test", 1.0, ["typo"])
    assert out == varied("test") and counts["as_they_were"] == {"a value or rule would break": 9}


def test_values_digits_addresses_and_negations_are_never_touched():
    text = "Do not bill Ann  Lee, bill 4411 at a@b.example (Lee's)"
    free = [text[start:end] for start, end in Guard(["Ann Lee"]).free(text)]
    assert free == ["Do", "bill", "bill", "at", "Lee's"]


def test_neighbours_touch_on_the_keyboard_and_both_ways():
    """By hand on a QWERTY keyboard; AZERTY has z where QWERTY has w."""
    assert set(neighbours("g")) == set("tyfhvb") and set(neighbours("q")) == set("wa") and "z" in neighbours("a", "fr")
    for layout, rows in _LAYOUTS.items():
        assert all(a in neighbours(b, layout) for a in "".join(rows) for b in neighbours(a, layout))


def test_mix_reaches_the_share_and_keeps_every_own_row(folder, tmp_path):
    """Of 12 rows a quarter are 3, so 9 own rows take 3 others."""
    mixed, counts = mix(load_sets(folder), source_file("general"), 0.25, seed=1)
    others = [record for record in mixed if "mixed" in record["tags"]]
    assert (counts["own"], counts["mixed"], counts["unlabelled"]) == (9, 3, 3) and len(mixed) == 12 == len({r["id"] for r in mixed})
    assert sorted((r for r in mixed if r not in others), key=lambda r: r["id"]) == sorted(varied("train"), key=lambda r: r["id"])
    assert all(record["id"].startswith("general/") for record in others)


def test_mix_is_seeded(folder):
    sets, source = load_sets(folder), source_file("general")
    runs = [mix(sets, source, 0.4, seed=seed)[0] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_rows_of_another_task_are_counted_as_of_another_form(folder, tmp_path):
    _, counts = mix(load_sets(folder), source_file("support_reply"), 0.5)
    assert counts["other_form"] == counts["mixed"] == 9


def test_a_message_that_stands_in_the_folder_is_passed_over(folder, tmp_path):
    fresh = {"id": "n", "input": "nothing like it"}
    write(tmp_path, "more", [{"id": "t", "input": varied("test")[3]["input"].upper()}, fresh])
    mixed, counts = mix(load_sets(folder), tmp_path / "more.jsonl", 0.1)
    assert counts["passed_over"] == 1 and [r["id"] for r in mixed if "mixed" in r.get("tags", [])] == ["more/n"]


def test_a_mixed_labelled_file_loads_again(folder, tmp_path):
    other = [row | {"id": f"o{i}", "input": f"{row['input']} again"} for i, row in enumerate(toy_rows(9))]
    write(tmp_path, "more", other)
    out = tmp_path / "mixed.jsonl"
    assert main(["data", "mix", str(folder), "--with", str(tmp_path / "more.jsonl"), "--share", "0.5", "--out", str(out)]) == 0
    write(folder, "train", lines(out))
    assert Counter("mixed" in row.tags for row in load_task(folder).rows("train")) == {True: 9, False: 9}


def test_noise_writes_what_it_says(folder, tmp_path, capsys):
    out = tmp_path / "noisy.jsonl"
    command = [
        "data",
        "noise",
        str(folder),
        "--out",
        str(out),
        "--rate",
        "1",
        "--kinds",
        "casing,typo",
        "--json",
        str(tmp_path / "n.json"),
    ]
    assert main(command) == 0
    counts = json.loads((tmp_path / "n.json").read_text())
    changed = [record for record in lines(out) if record["tags"] != ["plain"]]
    assert len(changed) == counts["changed"] and f"9 rows, {len(changed)} of them changed" in capsys.readouterr().out
    assert Counter(tag for r in changed for tag in r["tags"][1:]) == {
        f"noise_{kind}": n for kind, n in counts["kinds"].items() if n
    }


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["dedupe", "{toy}", "--out", "{toy}/train.jsonl"], "expected a file outside toy"),
        (["noise", "{toy}", "--out", "{toy}/new.jsonl"], "expected a file outside toy"),
        (["dedupe", "{toy}", "--out", "{tmp}/x", "--threshold", "0"], "--threshold: expected"),
        (["dedupe", "{toy}", "--out", "{tmp}/x", "--file", "dev"], "--file dev: expected one of train"),
        (["noise", "{toy}", "--out", "{tmp}/x", "--rate", "0"], "--rate: expected"),
        (["noise", "{toy}", "--out", "{tmp}/x", "--kinds", "typo,shout"], "found 'shout'"),
        (["noise", "general", "--out", "{tmp}/x", "--file", "train"], "expected labelled rows"),
        (["mix", "{toy}", "--out", "{tmp}/s.jsonl", "--share", "0.1", "--with", "{tmp}/s.jsonl"], "expected another file"),
        (["mix", "{toy}", "--out", "{tmp}/x", "--share", "1"], "--share: expected"),
        (["mix", "{toy}", "--out", "{tmp}/x", "--share", "0.99"], "--share 0.99: expected at most"),
        (["mix", "{toy}", "--out", "{tmp}/x", "--share", "0.1", "--with", "none"], "--with: expected"),
    ],
)
def test_wrong_use_is_one_sentence_and_writes_nothing(folder, tmp_path, capsys, command, says):
    write(tmp_path, "s", varied("test"))
    before = contents(folder)
    assert main(["data", *(part.format(toy=folder, tmp=tmp_path) for part in command)]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not (tmp_path / "x").exists() and contents(folder) == before


@pytest.mark.parametrize("tool", [["dedupe"], ["noise"], ["mix", "--share", "0.1"]])
def test_broken_rows_are_named_before_anything_is_written(folder, tmp_path, capsys, tool):
    write(folder, "train", [*varied("train"), {"id": "bad", "input": "x", "output": {}}])
    assert main(["data", tool[0], str(folder), *tool[1:], "--out", str(tmp_path / "x")]) == 1
    assert "train.jsonl:10: its output breaks" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_broken_source_is_named(folder, tmp_path):
    (tmp_path / "more.jsonl").write_text("{\n")
    with pytest.raises(DataError, match="1 broken row"):
        mix(load_sets(folder), tmp_path / "more.jsonl", 0.1)
    with pytest.raises(UsageError, match="--with"):
        source_file(str(tmp_path))
