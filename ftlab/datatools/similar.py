"""Which rows say nearly the same: MinHash over word 3-grams, TF-IDF cosine over pieces of words, and sentence embeddings.

The first view finds long texts with a few words changed. The second also sees short texts, misspellings and another order of words. The
third, on demand, sees other words for the same thing; it knows English best and takes a minute for ten thousand messages.
"""

import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any, NamedTuple

from ftlab.checks import normalize
from ftlab.embed import embed

HASHES = 128  # a signature's length; the estimate's standard error is then at most 0.5 / sqrt(128) = 0.044
ROWS_A_BAND = 2  # subtle: 64 bands of 2 miss a pair of similarity 0.5 with probability (1 - 0.5²)^64 = 1e-8
CROWD = 50  # members of a bucket that are all compared with each other
_PRIME = 2**31 - 1
_WORD = re.compile(r"\w+(?:['’]\w+)?")


class Pair(NamedTuple):
    """Two rows by index, first < second, how alike they are (0 to 1), and the view in which they are."""

    first: int
    second: int
    similarity: float
    view: str  # "3-grams", "TF-IDF" or "embedding"


def words(text: str) -> list[str]:
    """The words of `text` without case and punctuation."""
    return _WORD.findall(normalize(text))


def shingles(text: str, n: int = 3) -> frozenset[str]:
    """The sequences of n words in `text`; a shorter text is one sequence.

    >>> sorted(shingles("Where is my order?"))
    ['is my order', 'where is my']
    """
    found = words(text)
    return frozenset(" ".join(found[i : i + n]) for i in range(max(1, len(found) - n + 1)))


def jaccard(a: frozenset, b: frozenset) -> float:
    """Size of the intersection over size of the union."""
    return len(a & b) / len(a | b) if a or b else 1.0


def signatures(sets: Sequence[frozenset[str]], hashes: int = HASHES, seed: int = 0) -> Any:
    """MinHash signatures, an array (sets, hashes): two rows agree in about as many places as their sets' Jaccard similarity.

    Source: Broder (1997), "On the resemblance and containment of documents".
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    a, b = rng.integers(1, _PRIME, hashes, dtype=np.uint64), rng.integers(0, _PRIME, hashes, dtype=np.uint64)
    signed = np.empty((len(sets), hashes), dtype=np.uint64)
    for i, items in enumerate(sets):
        ids = np.array([zlib.crc32(item.encode()) for item in items], dtype=np.uint64) % _PRIME  # (items,)
        signed[i] = ((ids[:, None] * a + b) % _PRIME).min(axis=0)  # both factors < 2³¹, so nothing overflows
    return signed


def estimated(signed: Any, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """The Jaccard similarity of each pair of rows as their signatures tell it: the share of places in which these agree."""
    return [float((signed[i] == signed[j]).mean()) for i, j in pairs]


def candidates(signed: Any) -> set[tuple[int, int]]:
    """Pairs of rows that agree on a whole band of their signatures.

    In a bucket of more than `CROWD` rows, which only a template fills, each is compared with the first and its neighbours; so every
    member still finds a partner, and time stays in proportion to the rows.

    Source: Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", section 3.4.
    """
    pairs: set[tuple[int, int]] = set()
    for start in range(0, signed.shape[1], ROWS_A_BAND):
        buckets = defaultdict(list)
        for i, band in enumerate(signed[:, start : start + ROWS_A_BAND]):
            buckets[band.tobytes()].append(i)
        for members in buckets.values():
            if len(members) <= CROWD:
                pairs.update(combinations(members, 2))
            else:
                pairs.update((members[0], other) for other in members[1:])
                pairs.update(pairwise(members))
    return pairs


def gram_pairs(texts: Sequence[str], threshold: float, seed: int = 0) -> Iterator[Pair]:
    """Pairs whose word 3-grams have a Jaccard similarity of `threshold` or more; the similarity is exact, only the search is not."""
    sets = [shingles(text) for text in texts]
    for i, j in candidates(signatures(sets, seed=seed)):
        if (similarity := jaccard(sets[i], sets[j])) >= threshold:
            yield Pair(i, j, similarity, "3-grams")


def cosine_pairs(texts: Sequence[str], threshold: float, block: int = 500) -> Iterator[Pair]:
    """Pairs whose TF-IDF vectors of 3 to 5 letters within words have a cosine of `threshold` or more, for each row its `CROWD` nearest.

    Source: Salton & Buckley (1988) for the weights; the vectors are scikit-learn's.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(words(text) for text in texts):
        return
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float32).fit_transform(texts)
    for start in range(0, len(texts), block):
        alike = (vectors[start : start + block] @ vectors.T).tocsr()  # (block, texts)
        for i in range(alike.shape[0]):
            part = slice(alike.indptr[i], alike.indptr[i + 1])
            near = [(float(v), int(j)) for v, j in zip(alike.data[part], alike.indices[part], strict=True) if v >= threshold]
            for value, j in sorted(((v, j) for v, j in near if j != start + i), reverse=True)[:CROWD]:
                yield Pair(*sorted((start + i, j)), min(value, 1.0), "TF-IDF")


def meaning_pairs(texts: Sequence[str], threshold: float, block: int = 500) -> list[Pair]:
    """Pairs whose sentence embeddings have a cosine of `threshold` or more, most alike first: the same meaning, maybe in other words.

    Raises:
        UsageError: the extra `embeddings` is not installed.
    """
    import numpy as np

    vectors = embed(texts)  # (texts, 384), unit length
    found = []
    for start in range(0, len(texts), block):
        alike = vectors[start : start + block] @ vectors.T  # (block, texts)
        for i, j in zip(*np.nonzero(alike >= threshold), strict=True):
            if start + i < j:
                found.append(Pair(int(start + i), int(j), min(float(alike[i, j]), 1.0), "embedding"))
    return sorted(found, key=lambda pair: (-round(pair.similarity, 6), pair.first, pair.second))


def near_pairs(texts: Sequence[str], threshold: float, seed: int = 0) -> list[Pair]:
    """Pairs that are alike in the view of 3-grams or of TF-IDF, once each with the stronger view, most alike first.

    Args:
        texts: what users wrote, one per row.
        threshold: least similarity, above 0 and at most 1, in both views.
    """
    best: dict[tuple[int, int], Pair] = {}
    for pair in (*gram_pairs(texts, threshold, seed), *cosine_pairs(texts, threshold)):
        key = pair[:2]
        if key not in best or pair.similarity > best[key].similarity:
            best[key] = pair
    return sorted(best.values(), key=lambda pair: (-round(pair.similarity, 6), pair.first, pair.second))
