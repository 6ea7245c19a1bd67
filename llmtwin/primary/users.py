"""What if, in conversation: simulated users talk to the primary as it is, and under a change.

The users are made of recorded sessions (`twins/model/users`); how like people they are is measured on others.
It tunes nothing, and foretells nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import httpx

from llmtwin.edge import mirrored
from llmtwin.errors import InputError, LlmtwinError
from llmtwin.primary.asking import Tell, as_on_record, ask, changed, reasons
from llmtwin.primary.nearness import measures_of_all
from llmtwin.primary.place import open_store
from llmtwin.primary.trying import checks_on, rates, recorded
from llmtwin.settings import Settings, read_settings

if TYPE_CHECKING:
    from llmtwin.twins.model.checks import PassRates
    from llmtwin.twins.model.discrepancy import Discrepancy
    from llmtwin.twins.model.discrepancy import Exchange as Pair
    from llmtwin.twins.model.exchange import Exchange
    from llmtwin.twins.model.replay import Change
    from llmtwin.twins.model.reply import Reply
    from llmtwin.twins.model.users import Fidelity, User, Users

FIDELITY_MIN = 0.5
"""Below it, what users say is nearer to a turn drawn at random than to the best that could be chosen."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Talked:
    """Conversations under a change beside those with the primary as it is, turn by turn.

    `turns` are those that both sides answered. `fidelity` is how like people the users are, None where that
    cannot be measured; `doubt` says why they are not to be trusted, None where nothing speaks against it.
    """

    measured: Discrepancy
    rates: tuple[PassRates, ...]
    failures: Mapping[str, int]
    users: int
    turns: int
    fidelity: Fidelity | None
    doubt: str | None


def talk(
    name: str,
    changes: Sequence[str],
    count: int,
    checks: Sequence[str] = (),
    seed: int = 0,
    settings: Settings | None = None,
    tell: Tell = lambda _: None,
) -> Talked:
    """Have so many simulated users talk to the primary as it is, twice, and under a change.

    A user opens as somebody on record did, under the instructions and options of that session; it is the same
    one to each side, as far as it hears the same. The second conversation with the primary says how far it
    is from itself. Raises InputError as `try_change` does, and where there is no primary, or no conversation.
    """
    from llmtwin.twins.model import replay
    from llmtwin.twins.model.discrepancy import discrepancy
    from llmtwin.twins.model.users import turns

    settings = settings or read_settings()
    change = replay.parse(changes)
    with open_store(name, settings) as store:
        mirrored.take(store)
        lines = recorded(store)
        read = checks_on(lines, checks)
        learned, held = _conversations(lines)
        users = _users(learned)
        fidelity, doubt = _fidelity(users, [turns(request) for request in held], seed)
        with as_on_record(store) as primary, changed(store, change, settings) as other:
            sides = ((primary, replay.Change()), (other, change), (primary, replay.Change()))
            # One user for each side: the seed is the same, and each hears for itself.
            people = [[users.user((seed, number)) for _ in sides] for number in range(count)]
            tell(sum(user.turns_max for same in people for user in same))
            failures: Counter[str] = Counter()
            pairs = []
            for number, same in enumerate(people):
                begun = _begun(learned[same[0].opened_as])
                own, changed_, again = (
                    _said(user, begun, client, under, failures)
                    for user, (client, under) in zip(same, sides, strict=True)
                )
                pairs += _paired(own, changed_, again, f"user {number}")
        if not pairs:
            raise InputError(f"no turn was answered on both sides: {reasons(failures)}")
        measured = discrepancy(pairs, measures_of_all(read))
    return Talked(measured, rates(pairs, read), dict(failures), count, len(pairs), fidelity, doubt)


def _conversations(lines: Sequence[Exchange]) -> tuple[list[Json], list[Json]]:
    """The last chat request of each session: those to make users of, and those that are held out."""
    from llmtwin.twins.model import openai
    from llmtwin.twins.model.collect import is_held_out
    from llmtwin.twins.model.users import turns

    last: dict[str, Exchange] = {}
    for line in lines:
        try:
            openai.messages(line.request)
        except InputError:
            continue
        if turns(line.request):
            last[line.session] = line
    held = [line.request for line in last.values() if is_held_out(line)]
    return [line.request for line in last.values() if not is_held_out(line)], held


def _users(requests: Sequence[Json]) -> Users:
    from llmtwin.twins.model.users import Users, Words, turns

    sessions = [turns(request) for request in requests]
    said = (text for session in sessions for turn in session for text in (turn.heard, turn.said))
    return Users(sessions, Words(said))


def _fidelity(users: Users, held: Sequence[Any], seed: int) -> tuple[Fidelity | None, str | None]:
    from llmtwin.twins.model.users import fidelity

    try:
        found = fidelity(users, held, seed)
    except InputError as error:
        return None, f"how like people the users are cannot be measured: {error}"
    if found.low <= 0:
        return found, "the users are no better than turns drawn at random, as far as can be told"
    if found.score < FIDELITY_MIN:
        return found, "the users are nearer to chance than to the best that could be chosen"
    return found, None


def _begun(request: Json) -> Json:
    """A request without its conversation: its instructions, and all its options."""
    from llmtwin.twins.model import replay

    said = request["messages"]
    return {**request, "messages": list(takewhile(lambda turn: turn["role"] in replay.INSTRUCTING, said))}


def _said(
    user: User, begun: Json, client: httpx.Client, change: Change, failures: Counter[str]
) -> list[Reply]:
    """What one side says in a conversation, until the user ends it, or there is no text to go on from."""
    from llmtwin.twins.model.openai import reply

    messages, replies = list(begun["messages"]), list[Any]()
    turn = user.say()
    while turn is not None:
        messages.append({"role": "user", "content": turn})
        try:
            replies.append(reply(ask(client, change.of({**begun, "messages": messages}))))
        except LlmtwinError as error:
            failures[str(error)] += 1
            break
        heard = replies[-1].text
        if not heard:  # it calls a tool, and nobody executes that
            break
        messages.append({"role": "assistant", "content": heard})
        turn = user.say(heard)
    return replies


def _paired(primary: list[Reply], twin: list[Reply], repeat: list[Reply], session: str) -> list[Pair]:
    from llmtwin.twins.model.discrepancy import Exchange as Pair

    return [
        Pair(own, other, repeat[at] if at < len(repeat) else None, session)
        for at, (own, other) in enumerate(zip(primary, twin, strict=False))
    ]
