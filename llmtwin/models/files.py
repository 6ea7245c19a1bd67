"""Files and folders that are there whole or not at all. It knows nothing of what is in them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from llmtwin.errors import Unavailable


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Where to write the file or folder that takes the place of `target` once it is done.

    Raises Unavailable where it cannot be written; of what was begun nothing stays.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent) as scratch:
            yield (made := Path(scratch) / target.name)
            os.replace(made, target)
    except (OSError, SafetensorError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise Unavailable(f"{target} cannot be written: {why or error}") from error
