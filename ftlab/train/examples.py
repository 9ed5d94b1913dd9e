"""Training examples on disk: as many as there are, in as much memory as a few of them take."""

import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ftlab.generate import shared_prefix_length

# input_ids (integers of 32 bits), prompt_length, one loss weight for each token after the prompt
Example = tuple[Sequence[int], int, Sequence[float]]
HELD_BYTES = 8 * 2**20  # more than that is written to a temporary file


class Examples(Sequence[Example]):
    """A list of examples that can only grow; what it holds is on disk once it is more than `HELD_BYTES`.

    Attributes:
        lengths: tokens of each example.
        starts: tokens of each example's prompt.

    Raises:
        ValueError: an example has not one weight for each token after its prompt.
    """

    def __init__(self, examples: Iterable[Example] = ()):
        self._file = tempfile.SpooledTemporaryFile(max_size=HELD_BYTES)  # noqa: SIM115 (closed when the examples are no longer needed)
        weakref.finalize(self, self._file.close)
        self._places, self.lengths, self.starts = array("Q"), array("I"), array("I")
        self._end = 0
        self.extend(examples)

    def append(self, example: Example) -> None:
        ids, start, weights = example
        if len(weights) != len(ids) - start:
            raise ValueError(f"expected a weight for each of {len(ids) - start} tokens after the prompt, found {len(weights)}")
        self._file.seek(self._end)
        self._file.write(array("i", ids).tobytes() + array("d", weights).tobytes())
        self._places.append(self._end)
        self.lengths.append(len(ids))
        self.starts.append(start)
        self._end = self._file.tell()

    def extend(self, examples: Iterable[Example]) -> None:
        for example in examples:
            self.append(example)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: Any) -> Any:
        places = range(len(self))[index]
        return [self._read(i) for i in places] if isinstance(index, slice) else self._read(places)

    def __iter__(self) -> Iterator[Example]:
        return map(self._read, range(len(self)))

    def _read(self, i: int) -> Example:
        tokens, start = self.lengths[i], self.starts[i]
        self._file.seek(self._places[i])
        ids, weights = array("i"), array("d")
        ids.frombytes(self._file.read(tokens * ids.itemsize))
        weights.frombytes(self._file.read((tokens - start) * weights.itemsize))
        return ids, start, weights


def shared_prefix(examples: Iterable[Example]) -> Sequence[int]:
    """The token ids that the prompts of all examples begin with; see `shared_prefix_length`."""
    first = next(iter(examples))[0]
    return first[: shared_prefix_length(ids[:start] for ids, start, _ in examples)]
