"""What enters the first trained layer, kept on disk: with LoRA on the last layers only it never changes while training, so it is
computed once for each row and every pass over the rows starts there.

The file is flat: one vector for each token of the shared prefix, then for each row one for each token after it. It is read through a
memory map, so that the system decides how much of it stands in memory. Each vector is a 16-bit float rounding of the decoder's own;
a test states what that costs in the gradient.
"""

import hashlib
import shutil
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ftlab.errors import DataError
from ftlab.models import LoadedModel, fast_decoder, free_disk

ACTIVATIONS = "activations"  # folder of the kept states inside a run's folder


def keep_activations(
    loaded: LoadedModel,
    rows: Sequence[Sequence[int]],
    prefix: Sequence[int],
    last_layers: int,
    folder: Path,
    *,
    micro_tokens: int,
    say: Callable[[str], None] = print,
) -> "Activations | None":
    """The kept states for training the last `last_layers` layers of `loaded`.

    None if nothing is saved by keeping them (every layer is trained) or the fast decoder, which starts from them, does not apply.
    """
    if not last_layers:
        return None
    decoder, reason = fast_decoder(loaded)
    if reason:
        say("What enters the trained layers is not kept on disk, since the fast path does not apply: each pass computes it anew.")
    first = len(decoder.blocks) - last_layers if decoder else 0
    if not first:
        return None
    options = {"base": loaded.sha256, "micro_tokens": micro_tokens, "say": say}
    try:
        return Activations(decoder, rows, prefix, first, folder, **options)
    except OverflowError as error:
        say(f"{error}; it is kept as float32.")
        return Activations(decoder, rows, prefix, first, folder, dtype="float32", **options)


class Activations:
    """The states that enter layer `first` for every token of `rows`, in a file made here unless it is there already.

    Args:
        decoder: a `FastDecoder`; no layer before `first` may be trained.
        rows: token ids of each row; equal rows are stored once.
        prefix: the ids that most rows begin with, stored once.
        folder: gets one file, whose name is a hash of all that it depends on; whatever else is there is deleted as out of date.
        base: hash of the base weights.
        dtype: "float16" (2 bytes × hidden size a token) or "float32" (twice that).
        micro_tokens: tokens computed at once.
        say: told what is computed and how large it is.

    Raises:
        DataError: too little disk.
        OverflowError: a state is too large for 16-bit floats.
    """

    def __init__(
        self,
        decoder: Any,
        rows: Sequence[Sequence[int]],
        prefix: Sequence[int],
        first: int,
        folder: Path,
        *,
        base: str,
        dtype: str = "float16",
        micro_tokens: int = 900,
        say: Callable[[str], None] = print,
    ):
        import numpy

        self.decoder, self.prefix, self.first, self.dtype = decoder, list(prefix), first, dtype
        distinct = {_digest(ids): ids for ids in rows}
        # rows under the prefix come first, so that the file can be written from its beginning to its end
        order = sorted(distinct.items(), key=lambda item: -self._shared(item[1]))
        self.places: dict[bytes, tuple[int, int]] = {}  # of a row: where its own tokens begin, how many stand under the prefix
        tokens = len(self.prefix)
        for digest, ids in order:
            self.places[digest] = (tokens, self._shared(ids))
            tokens += len(ids) - self._shared(ids)
        shape = (tokens, decoder.embedding.shape[1])
        size = shape[0] * shape[1] * numpy.dtype(dtype).itemsize
        path = folder / f"{self._key(base)}.{dtype}"
        what = f"what enters layer {first + 1} of {len(decoder.blocks)} for {tokens} tokens ({size / 1e6:.1f} MB)"
        if path.exists() and path.stat().st_size == size:
            say(f"Found again: {what}.")
        else:
            say(f"Computed once and kept while training: {what}.")
            shutil.rmtree(folder, ignore_errors=True)
            free_disk(folder, size)
            self._write(path, [ids for _, ids in order], micro_tokens)
        self.states = numpy.memmap(path, dtype=dtype, mode="r", shape=shape)

    def start(self, rows: Sequence[Sequence[int]], tree: Any) -> tuple[int, Any] | None:
        """(first layer, the states that enter it for the tokens of `tree`, (N, hidden)); None if one of the rows is not kept.

        Args:
            tree: what `rows_tree` made of `rows`, whichever prefix it was given.
        """
        import numpy
        import torch

        places = [self.places.get(_digest(ids)) for ids in rows]
        if None in places:
            return None
        roots = len(tree.segments) - len(rows)  # 1 if the prefix is a segment of its own
        parts = self._between(*places[tree.parents.index(0) - roots], 0, len(tree.segments[0])) if roots else []
        for ids, segment, place in zip(rows, tree.segments[roots:], places, strict=True):
            parts += self._between(*place, len(ids) - len(segment), len(ids))
        return self.first, torch.from_numpy(numpy.concatenate(parts)).to(self.decoder.embedding.dtype)

    def _between(self, own: int, shared: int, begin: int, end: int) -> list[Any]:
        """The states of a row's tokens from `begin` to `end`: those stored with the prefix, then those of its own; see `places`."""
        return [self.states[begin : min(end, shared)], self.states[own + max(begin - shared, 0) : own + max(end - shared, 0)]]

    def _shared(self, ids: Sequence[int]) -> int:
        """How many tokens of a row are stored with the prefix."""
        size = len(self.prefix)
        return size if len(ids) > size and list(ids[:size]) == self.prefix else 0

    def _key(self, base: str) -> str:
        key = hashlib.sha256(f"{base} {self.first} {self.prefix}".encode())
        for digest in self.places:
            key.update(digest)
        return key.hexdigest()

    def _write(self, path: Path, rows: Sequence[Sequence[int]], micro_tokens: int) -> None:
        # written, not mapped: a disk that fills up is then an error with a name, and not the end of the process
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "wb") as file:
                for states in self._computed(rows, micro_tokens):
                    file.write(self._rounded(states))
            partial.rename(path)
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{path.parent}: the kept states could not be written ({reason}); choose another folder.") from None

    def _computed(self, rows: Sequence[Sequence[int]], micro_tokens: int) -> Iterator[Any]:
        """The states entering layer `first` of the prefix, then of the rows' own tokens, (N, hidden) each time."""
        from ftlab.llama import Layer, Tree

        past: list[Layer] = []
        if self.prefix:
            yield self.decoder.entering(Tree((tuple(self.prefix),), (-1,)), self.first, kept=past)
        for shared in sorted({self._shared(ids) for ids in rows}, reverse=True):
            own = [tuple(ids[shared:]) for ids in rows if self._shared(ids) == shared]
            for piece in _pieces(own, micro_tokens):
                yield self.decoder.entering(Tree(piece, (-1,) * len(piece)), self.first, past=past if shared else None)

    def _rounded(self, states: Any) -> bytes:
        import numpy

        if (largest := states.abs().max().item()) > float(numpy.finfo(self.dtype).max):
            raise OverflowError(f"what enters layer {self.first + 1} reaches {largest:.3g}, too large for {self.dtype}")
        return states.numpy().astype(self.dtype).tobytes()


def _digest(ids: Sequence[int]) -> bytes:
    return hashlib.sha256(array("q", ids).tobytes()).digest()


def _pieces(segments: Sequence[tuple[int, ...]], micro_tokens: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Cut rows, in their order, into pieces of at most `micro_tokens` tokens; a longer single row stands alone."""
    piece: list[tuple[int, ...]] = []
    for segment in segments:
        if piece and sum(map(len, piece)) + len(segment) > micro_tokens:
            yield tuple(piece)
            piece = []
        piece.append(segment)
    if piece:
        yield tuple(piece)
