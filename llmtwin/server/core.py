"""What the server does for its callers, twin by twin. It knows nothing of HTTP, nor of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from llmtwin import records
from llmtwin.errors import Conflict, Denied, InputError, NotFound, Untrusted
from llmtwin.memory import Memory
from llmtwin.models.engine.api import Completion, Engine, Request, turn
from llmtwin.records import Adapter, Answer, Card, Command, CommandState, Manifest, Prompt, Question, Value
from llmtwin.server.access import Access
from llmtwin.server.commands import Commands
from llmtwin.server.database import Database
from llmtwin.server.registry import Registry
from llmtwin.twins.audit import check_audited
from llmtwin.twins.commands import check
from llmtwin.twins.kind import View, kind
from llmtwin.twins.sessions import session_of
from llmtwin.wire.codec import Refused, decode_prompts
from llmtwin.wire.package import CARD, Expect, check_package

MIB = 1 << 20


def _nothing(adapter: str) -> None:
    pass


@dataclass(frozen=True)
class ServerOptions:
    """`data` is the server's own folder.

    `skills` gives the hash of the skill adapter of each kind that has one; the engine knows it by the name
    `skill:<kind>`, and a twin's version by its `engine_name`. `shapes`, where given, are those of the
    tensors of the adapters of each kind. `on_adapter_gone` is told the engine's name of each adapter
    withdrawn or forgotten, so that its weights leave the memory too. `audit_max` is as `check_audited` takes
    it.
    """

    data: Path
    engine: Engine
    admin_token: str | None = None
    skills: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, Mapping[str, tuple[int, ...]]] | None = None
    cohort_size_min: int = 3
    audit_max: Mapping[str, float] = field(default_factory=dict)
    command_life: timedelta = timedelta(minutes=5)
    recall_prompts_max: int = 256
    recall_tokens_max: int = 256
    body_bytes_max: int = 1 * MIB
    description_bytes_max: int = 8 * MIB
    prompts_bytes_max: int = 4 * MIB
    package_bytes_max: int = 68 * MIB
    now: Callable[[], datetime] = records.now
    on_adapter_gone: Callable[[str], None] = _nothing


@dataclass(frozen=True)
class Stored:
    """What became of a batch of prompts: new ones, known ones, and refused ones with the reason."""

    stored: int
    known: int
    refused: list[Refused]


@dataclass(frozen=True)
class Answered:
    """An answer, and what the engine worked for it."""

    answer: Answer
    tokens_prompt: int
    tokens_completion: int


class Core:
    """The parts of one server, opened together."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self._database = Database(options.data / "registry.sqlite")
        self.registry = Registry(self._database, options.data / "adapters")
        self.access = Access(self._database, options.admin_token)
        self.commands = Commands(self._database, options.now)
        self.memory = Memory(options.data / "memory.sqlite")

    def close(self) -> None:
        """Close the files; nothing is pending."""
        self.memory.close()
        self._database.close()

    # -- what an edge sends

    def append(self, twin: str, body: bytes) -> Stored:
        """Remember a batch of prompts; the bad ones are refused by index and the rest is kept.

        Raises NotFound where the twin was forgotten meanwhile; then nothing is kept.
        """
        prompts, refused = decode_prompts(body, self.options.now())
        bad = {item.index for item in refused}
        indices = [index for index in range(len(prompts) + len(refused)) if index not in bad]
        own: list[tuple[int, Prompt]] = []
        for index, prompt in zip(indices, prompts, strict=True):
            if prompt.twin == twin:
                own.append((index, prompt))
            else:
                refused.append(Refused(index=index, reason="it is about another twin"))
        stored, contrary = self._append(own)
        try:
            self.registry.twin(twin)
        except NotFound:  # it was forgotten meanwhile, and nobody could forget these any more
            self.memory.forget(twin)
            raise
        refused = sorted([*refused, *contrary], key=lambda item: item.index)
        return Stored(stored, len(own) - stored - len(contrary), refused)

    def _append(self, indexed: Sequence[tuple[int, Prompt]]) -> tuple[int, list[Refused]]:
        try:
            return self.memory.append([prompt for _, prompt in indexed]), []
        except (Conflict, InputError):
            pass  # one cannot be kept: find it, and keep the others
        stored, refused = 0, []
        for index, prompt in indexed:
            try:
                stored += self.memory.append([prompt])
            except (Conflict, InputError) as error:
                refused.append(Refused(index=index, reason=str(error)))
        return stored, refused

    def publish(self, twin: str, parts: dict[str, bytes]) -> Adapter:
        """Check an adapter package and make it live.

        Raises Untrusted, TooLarge, Conflict, or InputError for one that gives away more than may be.
        """
        kind_name = self.registry.twin(twin).kind
        expect = Expect(
            twin=twin,
            base=self.options.engine.base_hash,
            skill=self.options.skills.get(kind_name),
            version_after=0,  # the registry knows which versions may come, and which one is a repetition
            shapes=None if self.options.shapes is None else self.options.shapes[kind_name],
        )
        manifest = check_package(parts, self.registry.public_key(twin), expect)
        if manifest.kind != kind_name:
            raise Untrusted(f"the adapter is of the kind {manifest.kind}, the twin of the kind {kind_name}")
        check_audited(Card.model_validate_json(parts[CARD]), self.options.audit_max)
        return self.registry.publish(manifest, parts)

    # -- what an owner decides

    def withdraw(self, twin: str, version: int) -> None:
        """Take a version out of use for good. Raises NotFound."""
        adapter = self.registry.adapter(twin, version)
        self.registry.withdraw(twin, version)
        self.options.on_adapter_gone(engine_name(adapter.manifest))

    def forget(self, twin: str) -> None:
        """Everything of a twin is gone: prompts, adapters, commands, tokens. Raises NotFound."""
        adapters = self.registry.adapters(twin)
        self.memory.forget(twin)
        self.registry.forget(twin)
        self.memory.forget(twin)  # what was being appended when its tokens went
        for adapter in adapters:
            self.options.on_adapter_gone(engine_name(adapter.manifest))

    def order(self, command: Command) -> Command:
        """Check a command against the twin's description and store it as desired. Raises InputError."""
        description = self.registry.description(command.twin)
        value = check(description, command.path, command.value, command.unit)
        return self.commands.order(command.model_copy(update={"value": value}))

    def new_command(
        self,
        twin: str,
        path: str,
        value: Value,
        unit: str | None,
        command_id: str | None,
        expires_at: datetime | None,
    ) -> Command:
        """A command made now, with what was not said filled in."""
        created_at = self.options.now()
        return Command(
            id=command_id or records.new_id(),
            twin=twin,
            path=path,
            value=value,
            unit=unit,
            state=CommandState.DESIRED,
            created_at=created_at,
            expires_at=expires_at or created_at + self.options.command_life,
        )

    # -- what is asked

    def ask(self, question: Question, by_owner: bool, session: str | None = None) -> Answered:
        """Let the twin's kind answer: the version that is asked, else the one that answers the session.

        Only its owner may order, and is told how sure the model was. A `session` is what the asker names it;
        without a name it is known by its first message. Raises NotFound for an unknown version.
        """
        info = self.registry.twin(question.twin)
        meter = Meter(self.options.engine)
        adapter = self._answering(question, session)
        view = self._view(question.twin, adapter, by_owner, meter)
        answer = kind(info.kind).answer(question, view)
        told = answer if by_owner else answer.for_others()
        return Answered(told, meter.tokens_prompt, meter.tokens_completion)

    def recall(
        self, twin: str, prompts: Sequence[str], version: int | None
    ) -> tuple[Adapter, list[Completion]]:
        """What the adapter says to each prompt, greedily. Raises NotFound where there is no adapter."""
        if len(prompts) > self.options.recall_prompts_max:
            raise InputError(f"at most {self.options.recall_prompts_max} prompts at once")
        view = self._view(twin, self._adapter(twin, version), False, self.options.engine)
        if view.adapter is None:
            raise NotFound("this twin has no adapter yet: run `llmtwin tune`, and push it")
        requests = [
            Request(
                prompt=self.options.engine.chat(turn(prompt)),
                adapters=view.adapters,
                tokens_max=self.options.recall_tokens_max,
            )
            for prompt in prompts
        ]
        return view.adapter, self.options.engine.generate(requests)

    def card(self, twin: str, version: int | None) -> Card:
        """The signed card of a version, the live one where none is given. Raises NotFound."""
        adapter = self._adapter(twin, version)
        if adapter is None:
            raise NotFound("this twin has no adapter yet: run `llmtwin tune`, and push it")
        folder = self.registry.adapter_folder(twin, adapter.manifest.version)
        return Card.model_validate_json((folder / CARD).read_bytes())

    def _adapter(self, twin: str, version: int | None) -> Adapter | None:
        if version is None:
            return self.registry.live_adapter(twin)
        return self.registry.adapter(twin, version)

    def _answering(self, question: Question, named: str | None) -> Adapter | None:
        if question.version is not None:
            return self.registry.adapter(question.twin, question.version)
        turns = [*question.before, ("user", question.text)]
        messages = [{"role": role, "content": text} for role, text in turns]
        return self.registry.answering_adapter(question.twin, session_of(named, {"messages": messages}))

    def _view(self, twin: str, adapter: Adapter | None, may_order: bool, engine: Engine) -> View:
        info = self.registry.twin(twin)
        skill = f"skill:{info.kind}" if info.kind in self.options.skills else None
        own = engine_name(adapter.manifest) if adapter else None
        if adapter:
            self._check_fits(adapter, info.kind)

        def order(command: Command) -> Command:
            if not may_order or command.twin != twin:
                raise Denied("only the owner of a twin may order")
            return self.order(command)

        return View(
            engine=engine,
            memory=self.memory,
            description=self.registry.description(twin),
            adapters=tuple(name for name in (skill, own) if name),
            adapter=adapter,
            skill=skill,
            cohort=self.registry.cohort(twin),
            cohort_size_min=self.options.cohort_size_min,
            may_order=may_order,
            order=order,
        )

    def _check_fits(self, adapter: Adapter, kind_name: str) -> None:
        # One that was published before the server's base or skill changed is of no use with the new ones.
        manifest = adapter.manifest
        if (manifest.base, manifest.skill) != (
            self.options.engine.base_hash,
            self.options.skills.get(kind_name),
        ):
            raise Conflict(
                f"version {manifest.version} was tuned for another base or skill; tune and push again"
            )


def engine_name(made: Manifest) -> str:
    """What the engine calls a version: `<twin>@<version>#<hash>`.

    By its weights, too: when another process forgets the twin, its name may come again with other ones.
    """
    return f"{made.twin}@{made.version}#{made.weights[:16]}"


class Meter:
    """An engine that counts what one answer used of another engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.tokens_prompt = 0
        self.tokens_completion = 0

    @property
    def base_hash(self) -> str:
        """The hash of the engine behind."""
        return self._engine.base_hash

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """As the engine behind."""
        return self._engine.chat(messages)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """As the engine behind; counts the tokens of all completions."""
        completions = self._engine.generate(requests)
        self.tokens_prompt += sum(made.tokens_prompt for made in completions)
        self.tokens_completion += sum(made.tokens_completion for made in completions)
        return completions

    def score(self, requests: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[float]:
        """As the engine behind; scoring generates nothing and is not counted."""
        return self._engine.score(requests)
