"""A text corpus for pretraining without a hub: what the installed packages say of themselves, a folder of text, a streamed data set, or
runbooks drawn from a seed.

Text comes as a stream of documents and goes out as a stream: cleaned paragraph by paragraph, without repetitions, into plain text shards
of a few megabytes. No more than one document and two tables of fixed size are in memory, so a corpus may be larger than it. Whatever is
left out is counted by its reason. Each document goes to training or is held out by the hash of its text, so that the choice is the same
on every machine and no paragraph stands on both sides.
"""

import ast
import codecs
import hashlib
import json
import re
import shutil
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from ftlab.artifact import write_json
from ftlab.datatools.similar import shingles, signatures
from ftlab.errors import DataError, UsageError
from ftlab.models import cache_dir
from ftlab.runbook import documents as runbooks
from ftlab.task import file_sha256

PACKAGES, HUB, RUNBOOK = "packages", "hub:", "runbook"
TRAIN, HELD_OUT = "train", "held_out"
MANIFEST, LICENCES = "corpus.json", "LICENCES.md"
HELD_OUT_SHARE = 0.05  # of the documents
RUNBOOKS = 20_000  # drawn where no limit is given: 1.5 MB
SHARD_BYTES = 16_000_000
PIECE = 16_000  # characters after which a long file is cut, at the next blank line, into several documents
SHORTEST = 40  # characters of a paragraph: headings and single names teach little
LEAST_LETTERS = 0.75  # share of letters and spaces in a paragraph: below it stand tables, code and formulas
BANDS, BAND_ROWS = 16, 4  # a paragraph is near an earlier one if NEAR of its BANDS are known: similarity 0.9 is found in 99 %,
NEAR = 6  # 0.8 in 70 %, and 0.5 in 0.03 % of all cases (binomial, with probability similarity⁴ a band)
_FORMAT = 1  # of the shards; part of the name in the cache
_DOCUMENTATION = (".md", ".rst", ".txt")
_LICENCE = re.compile(r"licen[cs]e|copying|copyright|notice|authors|contributors|third.?party", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NO_LETTER = re.compile(r"[\d_]|[^\w\s]")


@dataclass(frozen=True)
class Document:
    """A piece of text, where it came from (a distribution, a folder, a data set) and what it is called there."""

    source: str
    name: str
    text: str


@dataclass
class Tally:
    """What was read, kept and left out, and why: "files", "paragraphs" and "characters", each a count by reason."""

    files: Counter = field(default_factory=Counter)
    paragraphs: Counter = field(default_factory=Counter)
    characters: Counter = field(default_factory=Counter)

    def paragraph(self, verdict: str, text: str) -> None:
        self.paragraphs[verdict] += 1
        self.characters[verdict] += len(text)

    def as_dict(self) -> dict:
        return {name: dict(getattr(self, name).most_common()) for name in ("files", "paragraphs", "characters")}


@dataclass(frozen=True)
class Corpus:
    """A gathered corpus: a folder of shards and what its corpus.json says."""

    folder: Path
    manifest: dict

    @property
    def sha256(self) -> str:
        """Hash of all text, in its order."""
        return self.manifest["sha256"]

    def documents(self, split: str = TRAIN, sources: Iterable[str] | None = None) -> Iterator[Document]:
        """The documents of a split, of some sources or of all, one at a time."""
        wanted = None if sources is None else set(sources)
        for shard in self.manifest["shards"]:
            if shard["split"] == split:
                for document in _read_shard(self.folder / shard["file"]):
                    if wanted is None or document.source in wanted:
                        yield document


def packages(tally: Tally, licences: dict[str, str]) -> Iterator[Document]:
    """Documentation and docstrings of every distribution that is installed where this runs. Python files are parsed, never run.

    Args:
        licences: is filled with "name version" → licence, as each distribution states it.
    """
    found = {str(d.metadata["Name"]): d for d in metadata.distributions() if d.metadata["Name"]}
    for name, distribution in sorted(found.items()):
        licences[name] = f"{distribution.version}: {_stated_licence(distribution.metadata)}"
        readme = distribution.metadata.get_payload()
        if isinstance(readme, str) and readme.strip():
            yield Document(name, "description", readme)
        for file in distribution.files or ():
            if ".dist-info" in str(file) or ".egg-info" in str(file):  # lists of names and licences
                continue
            if (text := _documentation(Path(str(distribution.locate_file(file))), str(file), tally)) is not None:
                yield Document(name, str(file), text)


def _stated_licence(about: Any) -> str:
    classifiers = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or () if c.startswith("License ::")]
    free = (about.get("License") or "").strip().splitlines()
    return about.get("License-Expression") or ", ".join(classifiers) or (free[0][:80] if free else "not stated")


def _documentation(path: Path, name: str, tally: Tally) -> str | None:
    """What there is to read in a distribution's file; None if nothing, which is counted."""
    if path.suffix not in (".py", *_DOCUMENTATION):
        return None
    if path.suffix != ".py" and _LICENCE.search(name):
        tally.files["licence text"] += 1
        return None
    try:
        text = path.read_bytes().decode("utf-8")
        if "\0" in text:
            raise ValueError("binary")
        text = docstrings(text) if path.suffix == ".py" else text
    except OSError:
        tally.files["listed but not there"] += 1
    except UnicodeDecodeError:
        tally.files["not UTF-8"] += 1
    except (SyntaxError, RecursionError):  # templates of Python files, Python of another version
        tally.files["not Python"] += 1
    except ValueError:
        tally.files["binary"] += 1
    else:
        tally.files["read" if text else "no docstring"] += 1
        return text or None
    return None


def docstrings(code: str) -> str:
    """Every docstring of a Python file, in its order, a blank line between them.

    >>> docstrings('def f():\\n    "Say it."\\n')
    'Say it.'

    Raises:
        SyntaxError: it is no Python of this version.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file's own doubtful escapes
        tree = ast.parse(code)
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return "\n\n".join(text for node in ast.walk(tree) if isinstance(node, holders) and (text := ast.get_docstring(node)))


def folder_documents(folder: Path, tally: Tally) -> Iterator[Document]:
    """Every file under `folder` that is UTF-8 text, long ones in pieces; hidden, binary and other files are counted.
    Each sub-folder is a source.

    Raises:
        UsageError: there is no such folder or file.
    """
    if not folder.exists():
        raise UsageError(
            f"--corpus: expected {PACKAGES}, {RUNBOOK}, a folder with text or {HUB}ID, found {str(folder)!r}, which is not there."
        )
    for path in [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder)) if path != folder else path.name
        kind = "hidden" if any(part.startswith(".") for part in Path(name).parts) else _kind(path)
        if kind == "read" and _LICENCE.search(path.name):
            kind = "licence text"
        tally.files[kind] += 1
        if kind == "read":
            for number, text in enumerate(_pieces(path)):
                yield Document(_source(folder, name), f"{name}#{number}" if number else name, text)


def _source(folder: Path, name: str) -> str:
    """The sub-folder that a file lies in, or the folder's own name."""
    parts = Path(name).parts
    return parts[0] if len(parts) > 1 else folder.name


def _kind(path: Path) -> str:
    """ "read" for UTF-8 text, else what the file is; read in blocks, whatever its size."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            if b"\0" in block:
                return "binary"
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                return "not UTF-8"
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "not UTF-8"
    return "read"


def _pieces(path: Path) -> Iterator[str]:
    """A file's text in pieces of about `PIECE` characters, cut at blank lines where there are any."""
    piece: list[str] = []
    size = 0
    with open(path, encoding="utf-8") as handle:
        while line := handle.readline(PIECE):  # subtle: a line without end is read in parts
            piece.append(line)
            size += len(line)
            if size >= PIECE and (not line.strip() or size >= 4 * PIECE):
                yield "".join(piece)
                piece, size = [], 0
    if piece:
        yield "".join(piece)


def hub_documents(name: str, tally: Tally, licences: dict[str, str]) -> Iterator[Document]:
    """The training rows of a data set, streamed: its column "text", or else its first column of strings.

    Args:
        name: what `datasets.load_dataset` takes: a hub id or a local folder, with ":CONFIG" behind it if it has several.

    Raises:
        UsageError: `datasets` is not installed, the data set cannot be had, or it has no text.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise UsageError(f"--corpus {HUB}{name}: expected the package datasets, found none; pip install 'ftlab[trl]'.") from None
    path, _, config = name.partition(":")
    try:
        rows = load_dataset(path, config or None, split="train", streaming=True)
        first = next(iter(rows), {})
    except Exception as error:  # datasets raises its own kind for each of many reasons
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"--corpus {HUB}{name}: expected a data set with a split train, found none ({reason}).") from None
    columns = [key for key, value in first.items() if isinstance(value, str)]
    column = "text" if "text" in columns else next(iter(columns), None)
    if column is None:
        raise UsageError(f"--corpus {HUB}{name}: expected a column of text, found {', '.join(first) or 'no rows'}; take another.")
    licences[path] = getattr(rows.info, "license", "") or "see the data set's page"
    for number, row in enumerate(rows):
        tally.files["rows"] += 1
        yield Document(path, str(number), row[column] or "")


class Seen:
    """Remembers 64-bit keys in a table of fixed size: no key is ever known by mistake, but of very many the oldest are forgotten."""

    def __init__(self, bits: int):
        import numpy as np

        self.shift, self.table = np.uint64(64 - bits), np.zeros(1 << bits, dtype=np.uint64)

    def known(self, keys: Any) -> Any:
        """Which of the keys, an array of unsigned 64-bit numbers, are remembered."""
        return self.table[self._places(keys)] == keys

    def add(self, keys: Any) -> None:
        self.table[self._places(keys)] = keys

    def _places(self, keys: Any) -> Any:
        return (keys * keys.dtype.type(0x9E3779B97F4A7C15)) >> self.shift  # Knuth's multiplicative hashing


class Cleaner:
    """Turns documents into clean ones without what an earlier document said.

    Exact repetitions are found by a hash of the words, near ones by MinHash bands. The tables take 96 MB together and remember the last
    few million paragraphs, or half a million for near repetitions. Text that is not `prose` (code, a notation) may be short, without many
    letters, and nearly the same as other text; of it only exact repetitions are left out.

    Source: Broder (1997) for MinHash; Lee et al. (2021), Deduplicating Training Data Makes Language Models Better.
    """

    def __init__(self, tally: Tally, exact_bits: int = 22, near_bits: int = 23, *, prose: bool = True):
        self.tally, self.exact, self.near, self.prose = tally, Seen(exact_bits), Seen(near_bits), prose

    def clean(self, text: str) -> str:
        """The paragraphs of `text` that are kept, a blank line between them; "" if none is."""
        fresh = [p for p in paragraphs(text) if self._first(p)]
        if not self.prose:
            for p in fresh:
                self.tally.paragraph("kept", p)
            return "\n\n".join(fresh)
        kept = [p for p, keys in zip(fresh, _bands(fresh), strict=True) if self._new(p, keys)]
        return "\n\n".join(kept)

    def _first(self, paragraph: str) -> bool:
        """Whether it reads as text and has not been seen in the same words."""
        import numpy as np

        reason = unfit(paragraph) if self.prose else ""
        if not reason:
            plain = " ".join(paragraph.casefold().split())
            key = np.frombuffer(hashlib.blake2b(plain.encode(), digest_size=8).digest(), dtype=np.uint64)
            reason = "exact repetition" if self.exact.known(key)[0] else ""
            self.exact.add(key)
        if reason:
            self.tally.paragraph(reason, paragraph)
        return not reason

    def _new(self, paragraph: str, keys: Any) -> bool:
        alike = int(self.near.known(keys).sum()) >= NEAR
        if not alike:  # what is left out vouches for nothing
            self.near.add(keys)
        self.tally.paragraph("near repetition" if alike else "kept", paragraph)
        return not alike


def paragraphs(text: str) -> list[str]:
    """The paragraphs of `text`, without control characters, tabs, spaces at line ends and other forms of the same letters."""
    plain = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4))
    lines = [line.rstrip() for line in _CONTROL.sub("", plain).split("\n")]
    return [p for p in re.split(r"\n{2,}", "\n".join(lines).strip("\n")) if p.strip()]


def unfit(paragraph: str) -> str:
    """Why a paragraph is no text to learn from; "" if it is."""
    size = len(paragraph.strip())
    if size < SHORTEST:
        return "short"
    return "not prose" if len(_NO_LETTER.sub("", paragraph)) < LEAST_LETTERS * len(paragraph) else ""


def _bands(texts: list[str]) -> Any:
    """The keys of each text's MinHash bands, an array (texts, BANDS)."""
    import numpy as np

    signed = signatures([shingles(text) for text in texts], hashes=BANDS * BAND_ROWS).reshape(-1, BANDS, BAND_ROWS)
    keys = np.broadcast_to(np.arange(1, BANDS + 1, dtype=np.uint64), signed.shape[:2]).copy()
    for row in range(BAND_ROWS):
        keys = keys * np.uint64(0x100000001B3) + signed[:, :, row]  # wraps around, as FNV does
    return keys


def held_out(text: str) -> bool:
    """Whether a document is held out: by its own hash, so the same everywhere."""
    first = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return first < HELD_OUT_SHARE * 2**64


class _Shards:
    """Writes documents into numbered text files of about `SHARD_BYTES`, training and held-out ones apart."""

    def __init__(self, folder: Path):
        self.folder, self.count, self.handles, self.sizes = folder, Counter(), {}, Counter()

    def write(self, document: Document) -> None:
        split = HELD_OUT if held_out(document.text) else TRAIN
        if split not in self.handles or self.sizes[split] >= SHARD_BYTES:
            self._next(split)
        name = " ".join(document.name.split())
        record = f"\f{document.source}\t{name}\n{document.text}\n".encode()
        self.sizes[split] += self.handles[split].write(record)

    def _next(self, split: str) -> None:
        if split in self.handles:
            self.handles[split].close()
        self.handles[split] = open(self.folder / f"{split}-{self.count[split]:05d}.txt", "wb")
        self.count[split] += 1
        self.sizes[split] = 0

    def close(self) -> list[dict]:
        for handle in self.handles.values():
            handle.close()
        names = [(split, f"{split}-{i:05d}.txt") for split in sorted(self.count) for i in range(self.count[split])]
        return [
            {"file": n, "split": s, "bytes": (self.folder / n).stat().st_size, "sha256": file_sha256(self.folder / n)}
            for s, n in names
        ]


def _read_shard(path: Path) -> Iterator[Document]:
    """The documents of a shard, one at a time: a line that begins with a form feed opens one."""
    head, lines = None, []
    with open(path, encoding="utf-8", newline="\n") as handle:
        for line in handle:
            if line.startswith("\f"):
                if head is not None:
                    yield _document(head, lines)
                head, lines = line, []
            else:
                lines.append(line)
    if head is not None:
        yield _document(head, lines)


def _document(head: str, lines: list[str]) -> Document:
    source, name = head[1:].rstrip("\n").split("\t", 1)
    return Document(source, name, "".join(lines).removesuffix("\n"))


def write_corpus(
    documents: Iterable[Document],
    folder: Path,
    tally: Tally,
    *,
    name: str,
    licences: dict[str, str],
    limit_mb: float = 0,
    prose: bool = True,
) -> Corpus:
    """Clean `documents`, write them as shards and say beside them what was left out and under which licences they stand.

    Args:
        folder: for the corpus; an older one there is replaced in one step, once this one is complete.
        tally: of the same stream.
        name: what the user called the corpus.
        licences: source → version and licence; read when the stream is at its end.
        limit_mb: stop after so many megabytes of kept text; 0 means never.
        prose: leave out what does not read as text, and near repetitions; see `Cleaner`.

    Raises:
        DataError: no text is left, or too few documents to hold any out.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    cleaner, shards, sources, taken = Cleaner(tally, prose=prose), _Shards(partial), Counter(), 0
    for document in documents:
        if not (text := cleaner.clean(document.text)):
            continue
        size = len(text.encode())
        if limit_mb and taken + size > limit_mb * 1e6:
            tally.files["not looked at: the limit was reached"] += 1
            break
        taken += size
        sources[document.source] += size
        shards.write(Document(document.source, document.name, text))
    manifest = _manifest(shards.close(), tally, name, sources) | {"prose": prose}
    _refuse_empty(manifest, name)
    (partial / LICENCES).write_text(_licence_note(name, sources, licences), encoding="utf-8")
    write_json(partial / MANIFEST, manifest)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return Corpus(folder, manifest)


def _manifest(shards: list[dict], tally: Tally, name: str, sources: Counter) -> dict:
    size = Counter()
    for shard in shards:
        size[shard["split"]] += shard["bytes"]
    whole = hashlib.sha256("".join(s["sha256"] for s in shards).encode()).hexdigest()
    return {
        "corpus": name, "sha256": whole, "bytes": {split: size[split] for split in (TRAIN, HELD_OUT)},
        "counts": tally.as_dict(), "sources": dict(sources.most_common()), "shards": shards,
    }  # fmt: skip


def _refuse_empty(manifest: dict, name: str) -> None:
    if not manifest["bytes"][TRAIN]:
        counts = manifest["counts"]
        told = [f"{n} {what} {why}" for what in ("files", "paragraphs") for why, n in counts[what].items()]
        raise DataError(f"--corpus {name}: expected text, found none that could be kept ({', '.join(told) or 'no files'}).")
    if not manifest["bytes"][HELD_OUT]:
        raise DataError(
            f"--corpus {name}: expected enough documents to hold {HELD_OUT_SHARE:.0%} of them out, found too few "
            f"({manifest['bytes'][TRAIN]:,} bytes in all); add text."
        )


def _licence_note(name: str, sources: Counter, licences: dict[str, str]) -> str:
    rows = "".join(f"| {source} | {licences.get(source, 'not stated')} | {size:,} |\n" for source, size in sources.most_common())
    return (
        f"# Where this text comes from: {name}\n\n"
        "The text stays under the licence of its source, as the source states it. It was gathered on this machine for training and "
        "measuring here; whoever passes it on, or a model that repeats it, has to keep to these licences.\n\n"
        f"| source | version and licence | bytes kept |\n|---|---|---|\n{rows}"
    )


def open_corpus(folder: Path) -> Corpus | None:
    """The corpus that was written to `folder`; None if there is none."""
    try:
        return Corpus(folder, json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError):  # it is gathered anew
        return None


def gather(
    name: str, folder: Path, *, limit_mb: float = 0, reuse: bool = False, prose: bool = True, progress: bool = True
) -> Corpus:
    """The corpus that the user calls `name`: "packages", "hub:ID", "runbook" or a folder.

    Args:
        folder: where it is written; that of the packages is kept in the cache, by their names and versions.
        limit_mb: megabytes of text at most; 0 means all.
        reuse: take what `folder` holds of this name already.
        prose: see `Cleaner`; the packages' documentation always is, runbooks never are.

    Raises:
        UsageError: there is no such source.
        DataError: it holds no text.
    """
    from tqdm import tqdm

    folder, prose = _cached(limit_mb) if name == PACKAGES else folder, name == PACKAGES or (prose and name != RUNBOOK)
    if (reuse or name == PACKAGES) and (found := open_corpus(folder)) and found.manifest["corpus"] == name:
        if found.manifest.get("prose", True) is prose:
            return found
    tally, licences = Tally(), {}
    if name == PACKAGES:
        stream = packages(tally, licences)
    elif name.startswith(HUB):
        stream = hub_documents(name.removeprefix(HUB), tally, licences)
    elif name == RUNBOOK:
        stream = (Document(RUNBOOK, str(i), text) for i, text in enumerate(runbooks(RUNBOOKS)))
    else:
        stream = folder_documents(Path(name), tally)
    shown = tqdm(stream, desc="reading", unit="document", disable=not progress)
    return write_corpus(shown, folder, tally, name=name, licences=licences, limit_mb=limit_mb, prose=prose)


def _cached(limit_mb: float) -> Path:
    installed = sorted(f"{d.metadata['Name']} {d.version}" for d in metadata.distributions())
    key = hashlib.sha256(json.dumps([_FORMAT, limit_mb, installed]).encode()).hexdigest()[:12]
    return cache_dir() / "corpus" / f"packages-{key}"


def corpus_text(corpus: Corpus) -> str:
    """What a corpus holds and what was left out of it, to read."""
    manifest, counts = corpus.manifest, corpus.manifest["counts"]
    sizes = ", ".join(f"{n / 1e6:.1f} MB {split.replace('_', ' ')}" for split, n in manifest["bytes"].items())
    lines = [f"{manifest['corpus']}: {sizes}, from {len(manifest['sources'])} sources; licences in {corpus.folder / LICENCES}"]
    for what in ("files", "paragraphs"):
        lines.append(f"  {what}: " + ", ".join(f"{n:,} {why}" for why, n in counts[what].items()))
    return "\n".join(lines)
