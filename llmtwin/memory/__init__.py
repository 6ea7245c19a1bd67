"""The prompt database: what twins said, remembered. It knows nothing of models, of the wire or of access."""

from llmtwin.memory.store import Memory

__all__ = ["Memory"]
