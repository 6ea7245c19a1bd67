"""The tree of errors. It knows nothing of HTTP or of the command line: they map it.

    LlmtwinError
    ├── InputError      what was given is wrong: a file, an id, an option
    │   └── TooLarge    it is over a size limit
    ├── NotFound        no such twin, version, command, or nothing to show yet
    ├── Conflict        it contradicts what is already there
    ├── Untrusted       an adapter or a message fails its checks; nothing of it is kept
    ├── Denied          the caller may not do this
    │   └── Unauthenticated    nobody knows who the caller is
    └── Unavailable     something needed is not there now: a server, a base model, an engine

Every message is one line a person can act on: what is wrong, and what to do.
"""


class LlmtwinError(Exception):
    """Base of all errors that llmtwin raises on purpose; `str(error)` is meant for a person."""


class InputError(LlmtwinError):
    """What was given is wrong: a file, an id, an option."""


class TooLarge(InputError):
    """What was given is over a size limit."""


class NotFound(LlmtwinError):
    """There is no such thing, or nothing to show yet."""


class Conflict(LlmtwinError):
    """It contradicts what is already there."""


class Untrusted(LlmtwinError):
    """An adapter or a message fails its checks; nothing of it is kept."""


class Denied(LlmtwinError):
    """The caller is known and may not do this."""


class Unauthenticated(Denied):
    """Nobody knows who the caller is."""


class Unavailable(LlmtwinError):
    """Something needed is not there now: a server, a base model, an engine."""
