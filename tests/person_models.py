"""The real embedding model, loaded once for all tests of persons, where it is installed."""

from __future__ import annotations

from functools import cache

import pytest

from llmtwin.errors import Unavailable
from llmtwin.memory.embed import Embedder


@cache
def embedder() -> Embedder:
    """The bundled model. Raises Unavailable where there is none."""
    return Embedder()


def _why_not() -> str | None:
    try:
        embedder()
    except Unavailable as error:
        return str(error)
    return None


needs_embeddings = pytest.mark.skipif(_why_not() is not None, reason=str(_why_not()))
