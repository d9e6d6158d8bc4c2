"""The contract every adapter is held to, as tests to inherit: the built-in ones and those of other packages alike.

    class TestPigeon(ChannelContract):
        channel = PigeonChannel
        settings = {"host": "127.0.0.1", "token": "s3cret"}
        secrets = ("token",)
        shapes = {Shape.ACCEPTS: ..., Shape.REFUSED: ..., ...}
        golden = (Golden("gone", behaviour=..., outcome=Rejected, reason=Reason.ADDRESS_DEAD), ...)

        def message(self, number): ...
        def facing(self, behaviour): ...

What a `behaviour` is, the adapter's tests decide; `facing` starts a real server on loopback that behaves so and gives a
channel that talks to it. The suite needs pytest with pytest-asyncio in its automatic mode and imports neither; it knows
nothing of the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from typing import Any, ClassVar, Final, NamedTuple, Protocol, cast

import msgspec

from channels.contract import (
    Accepted,
    Channel,
    Limits,
    Message,
    Outcome,
    Reason,
    Rejected,
    Retry,
    Tools,
    Unknown,
)
from channels.testing_server import Do, HttpServer, Received, Reply

__all__ = [
    "ChannelContract",
    "Facing",
    "Golden",
    "GoldenAnswer",
    "GoldenCall",
    "GoldenRequest",
    "HttpChannelContract",
    "HttpFacing",
    "Recorder",
    "Shape",
]

_AT_ONCE: Final = 16  # servers at the same time; a hundred would starve each other of their short time limits
_PATIENCE_S: Final = 20.0  # longer than any adapter under test may take with the short limits its tests set


class Shape(StrEnum):
    """How a provider can fail on the wire, whatever it speaks. The comment is what an adapter must make of it."""

    ACCEPTS = "accepts"  # Accepted
    REFUSED = "refused"  # nobody listens: Retry, certainly not sent
    CLOSED_BEFORE_SENDING = "closed_before_sending"  # the connection ends before the message went out: Retry
    CLOSED_AFTER_SENDING = "closed_after_sending"  # the whole message was read, then silence and the end: Unknown
    HALF_ANSWER = "half_answer"  # the answer breaks off: Unknown
    GARBAGE_ANSWER = "garbage_answer"  # an answer to the message that nobody can read: Unknown
    SILENT_BEFORE_SENDING = "silent_before_sending"  # connects and never lets us begin: Retry
    SILENT_AFTER_SENDING = "silent_after_sending"  # takes the message and never answers: Unknown


_EXPECTED: Final[Mapping[Shape, type[Outcome]]] = {
    Shape.ACCEPTS: Accepted,
    Shape.REFUSED: Retry,
    Shape.CLOSED_BEFORE_SENDING: Retry,
    Shape.CLOSED_AFTER_SENDING: Unknown,
    Shape.HALF_ANSWER: Unknown,
    Shape.GARBAGE_ANSWER: Unknown,
    Shape.SILENT_BEFORE_SENDING: Retry,
    Shape.SILENT_AFTER_SENDING: Unknown,
}


class Golden(NamedTuple):
    """One row of a provider's documentation: what it answers, and what the adapter must say.

    `after` is the wait that the provider asked for, where the row is about that.
    """

    name: str
    behaviour: Any
    outcome: type[Outcome]
    reason: Reason | None = None
    after: float | None = None


class GoldenCall(NamedTuple):
    """One documented answer to a call of several messages: what must be said of each, in order."""

    name: str
    behaviour: Any
    outcomes: Sequence[tuple[type[Outcome], Reason | None]]


class Facing(Protocol):
    """A channel, and the server it talks to."""

    @property
    def channel(self) -> Channel:
        """The channel under test, closed by `facing` at the end."""
        ...

    def received(self) -> int:
        """How many messages the server has taken."""
        ...


class Recorder:
    """Tools that remember what was logged."""

    def __init__(self, *, provider: str = "under-test", now: Callable[[], float] = lambda: 1_795_000_000.0) -> None:
        self.lines: list[str] = []
        self.tools = Tools(provider=provider, now=now, log=self._log, notice=self._log, random=lambda: 0.5)

    def _log(self, event: str, **fields: Any) -> None:
        self.lines.append(f"{event} {fields!r}")


class ChannelContract:
    """Inherit, fill in the class attributes and the two methods; every `test_` method below is then a test."""

    channel: ClassVar[Any]
    """The adapter's class."""
    settings: ClassVar[Mapping[str, Any]]
    """Working settings, as they would stand in the configuration file; no connection is made with them."""
    secrets: ClassVar[tuple[str, ...]] = ()
    """Which of them must never be printed."""
    shapes: ClassVar[Mapping[Shape, Any]]
    """A behaviour for every shape of failure; leave out what the medium does not have, with a comment."""
    cannot_tell: ClassVar[frozenset[Shape]] = frozenset()
    """Shapes where nothing was sent and the adapter cannot know it, because a library between it and the wire does not
    say: there it must answer `Unknown`. Everyone else leaves this empty."""
    golden: ClassVar[Sequence[Golden]] = ()
    """The provider's documented answers."""
    calls: ClassVar[Sequence[GoldenCall]] = ()
    """The provider's documented answers to a batch call, where it has one; the outcomes of one of them differ."""
    recovers: ClassVar[Any] = None
    """A behaviour that leaves the first message hanging and takes the following ones."""
    concurrent: ClassVar[int] = 20
    """How many messages are sent at once; more than the adapter has connections is a good number."""

    def message(self, number: int) -> Message:
        """Make the message of that number. Its address must contain `private_address`, its body `private_body`."""
        raise NotImplementedError

    def facing(self, behaviour: Any, recorder: Recorder) -> AbstractAsyncContextManager[Facing]:
        """Start a server that behaves so and a channel for it, built with `recorder.tools` and short time limits."""
        raise NotImplementedError

    private_address: ClassVar[str] = "private-address"
    private_body: ClassVar[str] = "private-body"

    def test_settings_are_a_struct_that_refuses_unknown_keys(self) -> None:
        """A misspelt key in the configuration must be a fault, not a default."""
        shape = self.channel.Settings
        _require(issubclass(shape, msgspec.Struct), "Settings is a msgspec struct")
        _require(shape.__struct_config__.frozen, "Settings is frozen")
        msgspec.convert(dict(self.settings), shape)
        try:
            msgspec.convert({**self.settings, "no_such_key": 1}, shape)
        except msgspec.ValidationError:
            return
        raise AssertionError("Settings took an unknown key")

    def test_overrides_are_a_struct_that_refuses_unknown_keys(self) -> None:
        """A misspelt override must be a fault when the request is accepted, where the adapter says what it takes."""
        shape = getattr(self.channel, "Overrides", None)
        if shape is None:
            return
        _require(shape.__struct_config__.frozen and shape.__struct_config__.forbid_unknown_fields, "strict and frozen")
        _require(all(not field.required for field in msgspec.structs.fields(shape)), "every override may be left out")
        judge = getattr(self._build(Recorder()), "option_faults", None)
        _require(judge is None or not judge({}), "no overrides at all are a fault")

    def test_settings_never_print_their_secrets(self) -> None:
        """Settings end up in tracebacks and debug output."""
        settings = msgspec.convert(dict(self.settings), self.channel.Settings)
        for key in self.secrets:
            secret = str(self.settings[key])
            _require(secret not in repr(settings), f"repr shows {key}")
            _require(secret not in str(settings), f"str shows {key}")

    def test_it_satisfies_the_protocol_and_opens_nothing_when_built(self) -> None:
        """Building happens at start, without an event loop, for providers that may be down."""
        built = self._build(Recorder())
        _require(isinstance(built, Channel), "every name of the protocol is there")
        _require(built.kind.isidentifier() and built.kind == built.kind.lower(), "kind is a lower-case word")

    def test_limits_are_stated(self) -> None:
        """The dispatcher counts slots by them."""
        limits = self._build(Recorder()).limits
        _require(isinstance(limits, Limits), "limits are Limits")
        _require(limits.concurrency >= 1 and limits.batch >= 1, "at least one at a time")

    async def test_every_failure_on_the_wire_is_the_right_value(self) -> None:
        """Not sent is Retry; perhaps sent is Unknown; nothing raises."""
        wrong: list[str] = []
        outcomes = await self._outcomes(list(self.shapes.values()), Recorder())
        for shape, outcome in zip(self.shapes, outcomes, strict=True):
            expected = Unknown if shape in self.cannot_tell else _EXPECTED[shape]
            if type(outcome) is not expected:
                wrong.append(f"{shape}: {outcome!r}, expected {expected.__name__}")
        _require(not wrong, "\n".join(wrong))
        _require(Shape.ACCEPTS in self.shapes and Shape.REFUSED in self.shapes, "the first two shapes are everyone's")

    async def test_documented_answers_are_read_as_documented(self) -> None:
        """Each row of the golden table."""
        wrong: list[str] = []
        outcomes = await self._outcomes([row.behaviour for row in self.golden], Recorder())
        for row, outcome in zip(self.golden, outcomes, strict=True):
            reason = getattr(outcome, "reason", None)
            after = getattr(outcome, "after", None)
            if type(outcome) is not row.outcome or reason is not row.reason:
                wrong.append(f"{row.name}: {outcome!r}, expected {row.outcome.__name__}({row.reason})")
            elif row.after is not None and after != row.after:
                wrong.append(f"{row.name}: after {after}, expected {row.after}")
        _require(not wrong, "\n".join(wrong))

    async def test_an_accepted_message_arrived_once(self) -> None:
        """The happy path."""
        async with self.facing(self.shapes[Shape.ACCEPTS], Recorder()) as facing:
            outcome = await self._send(facing.channel, self.message(1))
            _require(isinstance(outcome, Accepted), repr(outcome))
            _require(facing.received() == 1, f"{facing.received()} messages arrived")

    async def test_messages_sent_at_once_each_arrive_once(self) -> None:
        """Concurrency beyond the number of connections waits; it loses and doubles nothing."""
        async with self.facing(self.shapes[Shape.ACCEPTS], Recorder()) as facing:
            messages = [self.message(number) for number in range(self.concurrent)]
            outcomes = await asyncio.gather(*[self._send(facing.channel, message) for message in messages])
            _require(all(isinstance(outcome, Accepted) for outcome in outcomes), repr(outcomes))
            _require(facing.received() == self.concurrent, f"{facing.received()} messages arrived")

    async def test_closing_twice_is_harmless(self) -> None:
        """Before anything was sent, and after."""
        unused = self._build(Recorder())
        await unused.aclose()
        await unused.aclose()
        async with self.facing(self.shapes[Shape.ACCEPTS], Recorder()) as facing:
            await self._send(facing.channel, self.message(1))
            await facing.channel.aclose()
            await facing.channel.aclose()

    async def test_a_cancelled_send_leaves_the_channel_usable(self) -> None:
        """No half-used connection goes to the next message."""
        if self.recovers is None:
            raise AssertionError("say in `recovers` how a server leaves the first message hanging")
        async with self.facing(self.recovers, Recorder()) as facing:
            hanging = asyncio.ensure_future(facing.channel.send(self.message(1)))
            done, _ = await asyncio.wait([hanging], timeout=0.2)
            _require(not done, "the first message hangs")
            hanging.cancel()
            try:
                await hanging
            except asyncio.CancelledError:
                pass
            else:
                raise AssertionError("cancellation was swallowed")
            many = max(2, facing.channel.limits.concurrency)
            outcomes = [await self._send(facing.channel, self.message(number)) for number in range(2, 2 + many)]
            _require(all(isinstance(outcome, Accepted) for outcome in outcomes), repr(outcomes))

    async def test_the_log_sees_no_address_and_no_body(self) -> None:
        """Across every behaviour this suite knows."""
        recorder = Recorder()
        await self._outcomes([*self.shapes.values(), *(row.behaviour for row in self.golden)], recorder)
        for line in recorder.lines:
            _require(self.private_address not in line and self.private_body not in line, f"logged: {line}")
            for key in self.secrets:
                _require(str(self.settings[key]) not in line, f"logged a secret: {line}")

    def test_what_would_be_sent_is_the_same_at_every_attempt(self) -> None:
        """A repeated message must be recognisable as the same one."""
        raw = getattr(self._build(Recorder()), "raw", None)
        if raw is not None:
            first = self.message(1)
            _require(raw(first) == raw(msgspec.structs.replace(first, attempt=2)), "attempts differ")

    async def test_a_call_of_several_answers_each_in_order(self) -> None:
        """Each row of the table of calls; without a batch call there is none."""
        batch = self._build(Recorder()).limits.batch
        _require((batch > 1) == bool(self.calls), f"`limits.batch` is {batch}, and there are {len(self.calls)} calls")
        if batch > 1:
            _require(any(len(set(row.outcomes)) > 1 for row in self.calls), "no call has outcomes that differ")
        wrong: list[str] = []
        for row in self.calls:
            found = await self._together(row.behaviour, len(row.outcomes))
            said = [(type(outcome), getattr(outcome, "reason", None)) for outcome in found]
            if said != list(row.outcomes):
                wrong.append(f"{row.name}: {found!r}, expected {row.outcomes!r}")
        _require(not wrong, "\n".join(wrong))

    async def test_a_call_that_fails_on_the_wire_is_every_messages_failure(self) -> None:
        """Not sent is Retry for all; perhaps sent is Unknown for all; a single message is told what `send` tells it."""
        if self._build(Recorder()).limits.batch == 1:
            return
        wrong: list[str] = []
        for shape, behaviour in self.shapes.items():
            for count in (1, 3):
                if shape is Shape.ACCEPTS and count > 1:
                    continue  # what a whole call is answered stands in `calls`
                found = await self._together(behaviour, count)
                if {type(outcome) for outcome in found} != {_EXPECTED[shape]}:
                    wrong.append(f"{shape}, {count}: {found!r}, expected {_EXPECTED[shape].__name__}")
        _require(not wrong, "\n".join(wrong))

    async def _together(self, behaviour: Any, count: int) -> Sequence[Outcome]:
        """Send several with one call, and hold each outcome to what every outcome must be."""
        async with self.facing(behaviour, Recorder()) as facing, asyncio.timeout(_PATIENCE_S):
            send_many = cast("Any", facing.channel).send_many
            found: Sequence[Any] = await send_many([self.message(number) for number in range(count)])
        _require(len(found) == count, f"{len(found)} outcomes for {count} messages")
        for outcome in found:
            self._hold(outcome)
        return found

    def _build(self, recorder: Recorder) -> Any:
        return self.channel(msgspec.convert(dict(self.settings), self.channel.Settings), recorder.tools)

    async def _outcomes(self, behaviours: Sequence[Any], recorder: Recorder) -> list[Outcome]:
        """Send one message to a server of each behaviour, some at a time: silence takes its time."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(behaviour: Any) -> Outcome:
            async with room, self.facing(behaviour, recorder) as facing:
                return await self._send(facing.channel, self.message(1))

        return await asyncio.gather(*[one(behaviour) for behaviour in behaviours])

    async def _send(self, channel: Channel, message: Message) -> Outcome:
        """Send, and hold the outcome to what every outcome must be."""
        async with asyncio.timeout(_PATIENCE_S):
            outcome: Any = await channel.send(message)
        return self._hold(outcome)

    def _hold(self, outcome: Any) -> Outcome:
        _require(isinstance(outcome, Accepted | Retry | Rejected | Unknown), f"not an Outcome: {outcome!r}")
        detail = outcome.detail or ""
        _require(detail.isprintable(), f"control characters in detail: {detail!r}")
        for key in self.secrets:
            _require(str(self.settings[key]) not in detail, f"a secret in detail: {detail}")
        return cast("Outcome", outcome)


class GoldenAnswer(NamedTuple):
    """One row of a REST provider's documentation: this answer, and what the adapter must say to it.

    `detail`: words that must be found in the outcome's detail, such as the provider's code.
    """

    name: str
    reply: Reply
    outcome: type[Outcome]
    reason: Reason | None = None
    after: float | None = None
    provider_id: str | None = None
    detail: str | None = None


class GoldenRequest(NamedTuple):
    """One message, and the request that it must become.

    The body is compared as `json` or `form`, whole; of the headers, those named (lower case). `path` with its query.
    """

    name: str
    message: Message
    path: str
    json: Any = None
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] = {}
    method: str = "POST"


class HttpChannelContract(ChannelContract):
    """For adapters that speak HTTP: the failures of the wire come with it; say what the provider answers and wants.

        class TestPigeon(HttpChannelContract):
            channel = PigeonChannel
            settings = {"base_url": "https://api.example.com", "token": "s3cret"}
            secrets = ("token",)
            accepted = Reply(202, json={"id": "m1"})
            answers = (GoldenAnswer("gone", Reply(410), Rejected, Reason.ADDRESS_DEAD), ...)
            requests = (GoldenRequest("text", message(...), "/v1/messages", json={...}), ...)

            def message(self, number): ...

    `facing` builds the adapter from `settings` with `base_url` replaced by the server's and `short` added: time limits
    in which the suite does not become slow. Adapters whose address is found otherwise replace `pointed_at`.
    """

    accepted: ClassVar[Reply]
    """What the provider answers to a message that it takes."""
    answers: ClassVar[Sequence[GoldenAnswer]] = ()
    requests: ClassVar[Sequence[GoldenRequest]] = ()
    short: ClassVar[Mapping[str, Any]] = {
        "connections": 3,
        "connect_timeout_s": 2.0,
        "read_timeout_s": 0.5,
        "total_timeout_s": 2.0,
        "proxy": "direct",
    }
    unread_success: ClassVar[bool] = True
    """Whether a 200 with a page of HTML is `Unknown`; not for a provider whose status alone says it all."""
    callers_endpoint: ClassVar[bool] = False
    """Whether the address is a caller's own (webhooks): then nothing it does may be blamed on provider or account."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Fill in what `ChannelContract` wants from what this class wants."""
        super().__init_subclass__(**kwargs)
        if not hasattr(cls, "accepted"):
            return  # a class in between
        # CLOSED_BEFORE_SENDING and SILENT_BEFORE_SENDING happen within the TLS handshake: only there is it certain.
        cls.shapes = {
            Shape.ACCEPTS: cls.accepted,
            Shape.REFUSED: Do.REFUSE,
            Shape.CLOSED_BEFORE_SENDING: Do.HANG_UP,
            Shape.CLOSED_AFTER_SENDING: Do.CLOSE,
            Shape.HALF_ANSWER: Do.HALF_BODY,
            Shape.GARBAGE_ANSWER: Do.GARBAGE,
            Shape.SILENT_BEFORE_SENDING: Do.NO_HANDSHAKE,
            Shape.SILENT_AFTER_SENDING: Do.SILENCE,
        }
        cls.golden = tuple(Golden(row.name, row.reply, row.outcome, row.reason, row.after) for row in cls.answers)
        cls.recovers = [Do.SILENCE, cls.accepted]

    def pointed_at(self, url: str) -> Mapping[str, Any]:
        """Give the settings for a server at `url`."""
        return {**self.settings, "base_url": url, **self.short}

    def counts(self, request: Received) -> bool:
        """Say whether a request carries a message; look-ups and tokens do not."""
        return request.method == "POST"

    @asynccontextmanager
    async def facing(self, behaviour: Any, recorder: Recorder) -> AsyncGenerator[HttpFacing, None]:
        """Start a server that answers so, and the adapter for it."""
        async with HttpServer(behaviour) as server:
            settings = msgspec.convert(dict(self.pointed_at(server.url)), self.channel.Settings)
            channel: Channel = self.channel(settings, recorder.tools)
            try:
                yield HttpFacing(channel, server, self.counts)
            finally:
                await channel.aclose()

    async def test_requests_are_what_the_provider_documents(self) -> None:
        """Each golden request, compared as data."""
        wrong: list[str] = []
        for row in self.requests:
            async with self.facing(self.accepted, Recorder()) as facing:
                outcome = await self._send(facing.channel, row.message)
                sent = [request for request in facing.server.requests if self.counts(request)]
                _require(len(sent) == 1, f"{row.name}: {len(sent)} requests, outcome {outcome!r}")
                wrong += [f"{row.name}: {each}" for each in _differences(row, sent[0])]
        _require(not wrong, "\n".join(wrong))

    async def test_answers_are_read_to_the_last_word(self) -> None:
        """The provider's id and its codes, where a row names them."""
        wrong: list[str] = []
        outcomes = await self._outcomes([row.reply for row in self.answers], Recorder())
        for row, outcome in zip(self.answers, outcomes, strict=True):
            if row.provider_id is not None and getattr(outcome, "provider_id", None) != row.provider_id:
                wrong.append(f"{row.name}: {outcome!r}, expected the id {row.provider_id}")
            if row.detail is not None and row.detail not in (outcome.detail or ""):
                wrong.append(f"{row.name}: {outcome!r}, expected {row.detail!r} in the detail")
        _require(not wrong, "\n".join(wrong))

    async def test_answers_nobody_documented_follow_the_house_rules(self) -> None:
        """An unheard-of 5xx is Unknown, an unheard-of 4xx Retry, 429 waits, a redirect is no success."""
        later = {"Retry-After": "7"}
        replies = [Reply(418), Reply(599), Reply(429, later), Reply(503, later), Reply(302, {"Location": "/elsewhere"})]
        teapot, broken, many, down, moved = await self._outcomes(replies, Recorder())
        _require(isinstance(teapot, Retry), f"418: {teapot!r}")
        _require(isinstance(broken, Unknown), f"599: {broken!r}")
        _require(isinstance(many, Retry) and many.after == 7, f"429 with Retry-After: 7: {many!r}")  # noqa: PLR2004
        _require(isinstance(down, Retry), f"503: {down!r}")
        _require(not isinstance(moved, Accepted), f"302: {moved!r}")
        if self.callers_endpoint:
            for outcome in (teapot, broken, many, down, moved):
                reason = getattr(outcome, "reason", None)
                _require(reason is Reason.RETRY, f"a caller's endpoint is blamed on the provider: {outcome!r}")

    async def test_an_endless_answer_ends(self) -> None:
        """Read to the limit, in time, and never an exception."""
        for behaviour in (Do.ENDLESS_BODY, Do.ENDLESS_HEAD):
            async with self.facing(behaviour, Recorder()) as facing:
                await self._send(facing.channel, self.message(1))

    async def test_a_page_instead_of_an_answer_is_not_success(self) -> None:
        """A captive portal or a wrong address answers 200 too."""
        if self.unread_success:
            page = Reply(200, {"Content-Type": "text/html"}, "<html><body>Welcome</body></html>")
            (outcome,) = await self._outcomes([page], Recorder())
            _require(isinstance(outcome, Unknown), f"200 with HTML: {outcome!r}")

    async def test_the_same_message_is_the_same_request_at_every_attempt(self) -> None:
        """Providers with idempotency keys compare the body, and refuse another one under the same key."""
        async with self.facing(self.accepted, Recorder()) as facing:
            first = self.message(1)
            await self._send(facing.channel, first)
            await self._send(facing.channel, msgspec.structs.replace(first, attempt=2))
            bodies = [request.body for request in facing.server.requests if self.counts(request)]
            _require(len(bodies) == 2 and bodies[0] == bodies[1], "attempts differ")  # noqa: PLR2004


class HttpFacing(NamedTuple):
    """A channel and the HTTP server it talks to."""

    channel: Channel
    server: HttpServer
    counts: Callable[[Received], bool]

    def received(self) -> int:
        """How many requests carried a message."""
        return sum(1 for request in self.server.requests if self.counts(request))


def _differences(row: GoldenRequest, sent: Received) -> list[str]:
    wrong: list[str] = []
    if (sent.method, sent.target) != (row.method, row.path):
        wrong.append(f"{sent.method} {sent.target}, expected {row.method} {row.path}")
    wrong += [
        f"header {name}: {sent.headers.get(name)!r}, expected {value!r}"
        for name, value in row.headers.items()
        if sent.headers.get(name) != value
    ]
    if row.json is not None and sent.json() != row.json:
        wrong.append(f"body {sent.json()!r}, expected {row.json!r}")
    if row.form is not None and sent.form() != dict(row.form):
        wrong.append(f"form {sent.form()!r}, expected {dict(row.form)!r}")
    return wrong


def _require(true: object, words: str) -> None:
    """Assert, also under `python -O`, with a sentence; pytest does not rewrite asserts in installed packages."""
    if not true:
        raise AssertionError(words)
