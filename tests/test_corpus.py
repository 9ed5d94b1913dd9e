"""The corpus: what is taken from where, what is left out and counted, and that memory does not grow with it."""

import importlib.metadata
import json
import random
import tracemalloc

import pytest

from ftlab import corpus
from ftlab.corpus import HELD_OUT, TRAIN, Document, Tally, docstrings, gather, paragraphs, unfit, write_corpus
from ftlab.datatools import similar
from ftlab.errors import DataError, UsageError

WORDS = "river stone garden letter winter market bridge candle forest window silver morning village harbour table summer".split()


def sentence(draw, n=30):
    return " ".join(draw.choice(WORDS) for _ in range(n)) + "."


@pytest.fixture
def text_folder(tmp_path):
    """Forty short texts in two sub-folders."""
    draw = random.Random(1)
    for i in range(40):
        path = tmp_path / "text" / ("first" if i % 2 else "second") / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join(sentence(draw) for _ in range(3)))
    return tmp_path / "text"


def all_text(found):
    return [d.text for split in (TRAIN, HELD_OUT) for d in found.documents(split)]


def kept(documents, tmp_path, **options):
    tally = Tally()
    found = write_corpus(documents, tmp_path / "c", tally, name="n", licences={}, **options)
    return found, tally


def test_docstrings_are_read_without_running_the_file():
    code = '"""Module."""\nraise SystemExit\nclass A:\n    """Class."""\n    def f(self):\n        """Method."""\n    x = "no docstring"\n'
    assert docstrings(code).split("\n\n") == ["Module.", "Class.", "Method."]


def test_paragraphs_lose_control_characters_and_trailing_spaces_only():
    assert paragraphs("a\x07b  \r\n c\r\n\r\n\r\n\td") == ["ab\n c", "    d"]


@pytest.mark.parametrize(
    ("paragraph", "why"),
    [
        ("Parameters", "short"),
        ("x = [1, 2, 3]; y = {4: 5, 6: 7}; z(8, 9, 10)", "not prose"),
        ("This is a sentence that is long enough to be learnt from.", ""),
        ("Das hier ist ein Satz, der lang genug ist, über Öl.", ""),
    ],
)
def test_what_is_no_text_is_named(paragraph, why):
    assert unfit(paragraph) == why


def test_every_character_is_kept_or_counted(text_folder, tmp_path):
    (text_folder / "more.txt").write_text("Short.\n\n" + "0123456789 " * 9)
    found = gather(str(text_folder), tmp_path / "c", progress=False)
    read = [p for path in text_folder.rglob("*.txt") for p in paragraphs(path.read_text())]
    counts = found.manifest["counts"]
    assert sum(counts["paragraphs"].values()) == len(read)
    assert sum(counts["characters"].values()) == sum(map(len, read))
    assert counts["paragraphs"]["short"] == counts["paragraphs"]["not prose"] == 1


def test_repetitions_are_dropped_exact_and_near_but_not_other_texts(tmp_path):
    draw = random.Random(2)
    texts = [sentence(draw, 60) for _ in range(60)]
    near = " ".join(["Another", *texts[0].split()[1:]])  # one of 60 words differs: 57 of 59 3-grams shared at least
    documents = [Document("s", str(i), t) for i, t in enumerate([*texts, texts[1].upper(), near])]
    found, tally = kept(documents, tmp_path)
    assert tally.paragraphs == {"kept": 60, "exact repetition": 1, "near repetition": 1}
    assert sorted(all_text(found)) == sorted(texts)


def test_half_alike_texts_are_both_kept(tmp_path):
    draw = random.Random(3)
    pairs = []
    for _ in range(100):
        common = sentence(draw, 40)
        pairs += [common + sentence(draw, 20), common + sentence(draw, 20)]  # Jaccard similarity about 38 / 78
    _, tally = kept((Document("s", str(i), t) for i, t in enumerate(pairs)), tmp_path)
    assert tally.paragraphs["near repetition"] <= 1


def test_a_document_is_on_one_side_the_same_each_time(text_folder, tmp_path):
    first = gather(str(text_folder), tmp_path / "a", progress=False)
    again = gather(str(text_folder), tmp_path / "b", progress=False)
    sides = [{d.text for d in first.documents(split)} for split in (TRAIN, HELD_OUT)]
    assert sides[1] and not sides[0] & sides[1]
    assert first.sha256 == again.sha256
    assert all(corpus.held_out(text) for text in sides[1])


def test_sub_folders_are_sources(text_folder, tmp_path):
    found = gather(str(text_folder), tmp_path / "c", progress=False)
    assert set(found.manifest["sources"]) == {"first", "second"}
    assert {d.source for d in found.documents(TRAIN, ["first"])} == {"first"}


def test_binary_foreign_hidden_and_licence_files_are_counted(text_folder, tmp_path):
    (text_folder / "a.bin").write_bytes(b"text and \0 more")
    (text_folder / "b.txt").write_bytes("Müller".encode("latin-1"))
    (text_folder / "cut.txt").write_bytes("Müller".encode()[:2])
    (text_folder / ".hidden").write_text("x")
    (text_folder / "LICENSE.txt").write_text("Permission is granted to all of us here to do as we please.")
    found = gather(str(text_folder), tmp_path / "c", progress=False)
    assert found.manifest["counts"]["files"] == {"read": 40, "not UTF-8": 2, "binary": 1, "hidden": 1, "licence text": 1}


@pytest.mark.parametrize(("content", "says"), [(b"\0\1\2", "1 files binary"), (b"", "1 files read")])
def test_a_corpus_without_text_is_refused_with_the_counts(tmp_path, content, says):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "f").write_bytes(content)
    with pytest.raises(DataError, match=says):
        gather(str(tmp_path / "t"), tmp_path / "c", progress=False)
    assert not (tmp_path / "c").exists()


def test_a_place_that_is_not_there_is_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="--corpus: expected packages, runbook, a folder"):
        gather(str(tmp_path / "nowhere"), tmp_path / "c", progress=False)


def test_a_long_file_without_a_line_end_comes_in_pieces(tmp_path):
    draw = random.Random(4)
    (tmp_path / "one.txt").write_text(sentence(draw, 60_000))
    pieces = list(corpus.folder_documents(tmp_path / "one.txt", Tally()))
    assert len(pieces) > 3
    assert max(len(p.text) for p in pieces) <= 5 * corpus.PIECE
    assert "".join(p.text for p in pieces) == (tmp_path / "one.txt").read_text()


def test_a_shard_gives_back_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "SHARD_BYTES", 2000)
    draw = random.Random(5)
    documents = [Document("s\u2028x", f"n {i}", sentence(draw) + "\n\n" + sentence(draw)) for i in range(60)]
    found, _ = kept(documents, tmp_path)
    assert len(found.manifest["shards"]) > 3
    read = [d for split in (TRAIN, HELD_OUT) for d in found.documents(split)]
    assert sorted(read, key=lambda d: int(d.name[2:])) == documents


def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    def stream(n):
        draw = random.Random(6)
        return (Document("s", str(i), sentence(draw, 200)) for i in range(n))

    monkeypatch.setattr(corpus.Cleaner.__init__, "__defaults__", (12, 14))  # small tables and shards, so that the text would show
    monkeypatch.setattr(corpus, "SHARD_BYTES", 50_000)
    monkeypatch.setattr(similar, "normalize", similar.normalize.__wrapped__)  # it keeps its last 8192 answers, here all of them
    peaks = []
    for n in (50, 1500):  # the second is 2 MB of text
        tracemalloc.start()
        found, _ = kept(stream(n), tmp_path)
        sum(len(d.text) for d in found.documents())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 300_000


def test_a_limit_stops_the_stream(tmp_path):
    def endless():
        draw = random.Random(7)
        while True:
            yield Document("s", "n", sentence(draw, 100))

    found, tally = kept(endless(), tmp_path, limit_mb=0.05)
    assert sum(found.manifest["bytes"].values()) < 53_000  # names of documents come on top
    assert tally.files["not looked at: the limit was reached"] == 1


def test_packages_give_docstrings_and_documents_with_their_licence(tmp_path, monkeypatch):
    draw = random.Random(8)
    site = tmp_path / "site"
    info = site / "toy-1.2.dist-info"
    info.mkdir(parents=True)
    (site / "toy").mkdir()
    files = {"toy/broken.py": "def (", "toy/empty.py": "x = 1", "toy/LICENSE.md": sentence(draw), "toy/guide.rst": sentence(draw)}
    files |= {f"toy/m{i}.py": f'"""{sentence(draw)}"""\nraise SystemExit' for i in range(40)}
    for name, content in files.items():
        (site / name).write_text(content)
    readme = sentence(draw)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: toy\nVersion: 1.2\nLicense-Expression: MIT\n\n{readme}\n")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in [*files, "toy/gone.py", "toy-1.2.dist-info/METADATA"]))
    installed = list(importlib.metadata.distributions(path=[str(site)]))
    monkeypatch.setattr(corpus.metadata, "distributions", lambda: installed)
    found = gather("packages", tmp_path / "unused", progress=False)
    counts = found.manifest["counts"]["files"]
    assert counts == {"read": 41, "not Python": 1, "no docstring": 1, "licence text": 1, "listed but not there": 1}
    assert readme in all_text(found) and len(all_text(found)) == 42
    assert "| toy | 1.2: MIT |" in (found.folder / corpus.LICENCES).read_text()
    assert gather("packages", tmp_path / "unused", progress=False).folder == found.folder  # kept in the cache
    assert not (tmp_path / "unused").exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_data_set_is_streamed(tmp_path):
    draw = random.Random(9)
    (tmp_path / "set").mkdir()
    rows = [{"number": i, "text": sentence(draw)} for i in range(60)]
    (tmp_path / "set" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = gather(f"hub:{tmp_path / 'set'}", tmp_path / "c", progress=False)
    assert sorted(all_text(found)) == sorted(row["text"] for row in rows)


def test_a_data_set_that_is_not_there_is_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="expected a data set"):
        gather(f"hub:{tmp_path / 'none'}", tmp_path / "c", progress=False)
