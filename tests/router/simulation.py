"""The real dispatcher in a world of its own: virtual time, a queue in memory, adapters and faults by the seed.

Everything that happens follows from the seed, so a failing one can be looked at again:

    python -m tests.router.simulation SEED        # tells the story of that seed

What runs is the gateway's own code (`Dispatcher`, `Deliver`, `settle`, breaker, gate, retry). What is made up is below
it (the store, the providers, the clock) and beside it (crashes, freezes, stops, pauses).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from channels.contract import Accepted, Content, Limits, Message, Outcome, Reason, Rejected, Retry, Unknown
from gateway.config.settings import (
    BreakerSettings,
    CategorySettings,
    ChannelSettings,
    Environment,
    RetrySettings,
    Settings,
    StagingSettings,
)
from gateway.middleware.breaker import Breaker, State
from gateway.middleware.rate_limit import Pace
from gateway.middleware.staging import Staging
from gateway.model import ids
from gateway.model.ids import IdSource
from gateway.model.states import FINAL, Mode, OnUnknown, Priority, Status, lane_of
from gateway.router.consenting import Consenting
from gateway.router.deliver import Deliver
from gateway.router.dispatch import Callers, Dispatcher, Lane
from gateway.router.events import EventComposer
from gateway.router.gate import Gate
from gateway.router.often import NotTooOften
from gateway.router.providers import ProviderHandle, Providers
from gateway.router.rules import Rules
from gateway.router.spending import Spending
from gateway.router.vault import Vault
from gateway.storage.contract import (
    Claimed,
    Consent,
    ConsentAsked,
    DeliveryRow,
    Lease,
    Reservation,
    Settlement,
    StoreUnavailable,
)
from tests.router.table import Table
from tests.support.virtual_time import run_virtually

START_MS = 1_800_000_000_000
CHAOS_S = 25.0
"""Until then faults happen; afterwards all is well and everything must come to its end."""
SEND_MOST_S = 1.3
"""The longest a provider takes that is not in trouble."""
SLACK_S = 3.0
"""What the way through the store and the providers may add to a promise, at most."""


QUIET = dict.fromkeys(("crashes", "freezes", "outages", "stops", "pauses", "troubles", "jumps", "cancels"), 0)


class Broken(AssertionError):
    """A promise was broken."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a seed decides beforehand."""

    processes: int
    deliveries: int
    slots: int
    concurrency: int
    providers: int
    lease_s: int
    poll_s: float
    retry: RetrySettings
    breaker: BreakerSettings
    deadline_s: float
    paced: bool
    crashes: int
    freezes: int
    outages: int
    stops: int
    pauses: int
    troubles: int
    jumps: int
    cancels: int = 0
    poison: bool = False
    """One message ends every process that sends it, and nothing else happens."""

    @classmethod
    def of(cls, dice: random.Random) -> Plan:
        """Roll the dice."""
        plan = cls._of(dice)
        if dice.random() >= 0.1:
            return plan
        retry = msgspec.structs.replace(plan.retry, attempts=5)
        return msgspec.structs.replace(plan, **QUIET, retry=retry, deadline_s=200.0, poison=True)

    @classmethod
    def _of(cls, dice: random.Random) -> Plan:
        first_s = dice.uniform(0.2, 3)
        return cls(
            processes=dice.choice([1, 1, 2, 3]),
            deliveries=dice.randrange(3, 30),
            slots=dice.choice([1, 2, 4, 8]),
            concurrency=dice.randrange(1, 5),
            providers=dice.choice([1, 1, 2]),
            lease_s=dice.choice([1, 3, 6, 12]),
            poll_s=dice.choice([0.5, 1.0, 3.0]),
            retry=RetrySettings(attempts=dice.randrange(1, 7), first_s=first_s, factor=2, most_s=first_s * 4),
            breaker=BreakerSettings(failures=dice.randrange(1, 6), first_s=0.5, most_s=4),
            deadline_s=dice.choice([8.0, 30.0, 60.0]),
            paced=dice.random() < 0.15,
            crashes=dice.choice([0, 0, 1, 3]),
            freezes=dice.choice([0, 0, 1, 2]),
            outages=dice.choice([0, 0, 1, 2]),
            stops=dice.choice([0, 0, 1, 2]),
            pauses=dice.choice([0, 0, 0, 1]),
            troubles=dice.choice([0, 1, 3]),
            jumps=dice.choice([0, 0, 0, 0, 2]),
        )


class World:
    """What all processes share: the queue, the providers, the time, and what is known from outside."""

    def __init__(self, seed: int, *, tell: Callable[[str], None] | None = None, broken: str = "") -> None:
        self.broken = broken
        self.dice = random.Random(seed)
        self.plan = Plan.of(self.dice)
        self.fate = random.Random(f"cancel {seed}")  # apart, so that the other faults fall as they would without
        self.plan = msgspec.structs.replace(self.plan, cancels=0 if self.plan.poison else self.fate.choice([0, 0, 3]))
        self.table = Table()
        self.tell_ = tell
        self.jumped_ms = 0
        self.over = False
        self.store_away_until = 0.0
        self.trouble: dict[str, tuple[float, str]] = {}
        self.processes: list[Process] = []
        self.accepted: dict[UUID, Claimed] = {}
        self.arrived: Counter[UUID] = Counter()
        self.lied: Counter[UUID] = Counter()
        self.wire: set[tuple[UUID, int]] = set()
        self.over_with: set[tuple[UUID, int]] = set()
        self.hopeless: set[UUID] = set()
        self.poison = UUID(int=self.dice.randrange(1, self.plan.deliveries + 1)) if self.plan.poison else None
        self.started: dict[UUID, float] = {}
        self.taken_over = 0
        self.graves: list[asyncio.Future[None]] = []
        self.idle_since: dict[tuple[str, str], float] = {}
        self.channel = ChannelSettings(
            providers=[f"p{number}" for number in range(1, self.plan.providers + 1)],
            sender="Shop <shop@example.com>",
            retry=self.plan.retry,
            breaker=self.plan.breaker,
            slots=self.plan.slots,
        )
        self.rules = Rules.build(
            Settings(
                environment=Environment.PRODUCTION,
                channels={"email": self.channel},
                categories={"default": CategorySettings()},
            )
        )

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def clock(self) -> int:
        return START_MS + round(self.now_s() * 1000) + self.jumped_ms

    def tell(self, *words: Any) -> None:
        if self.tell_ is not None:
            self.tell_(f"{self.now_s():8.3f}  {'  '.join(map(str, words))}")

    def begin(self) -> None:
        """Start a process."""
        self.processes.append(Process(self, f"w{len(self.processes) + 1}"))
        self.tell(self.processes[-1].name, "begins")

    async def for_ever(self) -> None:
        """Wait until the world is over, and not be swept up meanwhile."""
        self.graves.append(asyncio.get_running_loop().create_future())
        await self.graves[-1]

    async def crash(self, process: Process) -> None:
        """End a process without a word; another takes its place."""
        self.tell(process.name, "CRASHES")
        process.dead = True
        await asyncio.sleep(self.dice.uniform(0, 4))
        self.begin()

    # --- what must hold ---

    def begins(self, process: Process, id_: UUID, token: int, lane: str) -> None:
        """Hear that a message goes out."""
        self.tell(process.name, "sends", short(id_), f"token {token}", lane)
        if (id_, token) in self.wire:
            raise Broken(f"{short(id_)} is on the wire twice with token {token}")
        if (id_, token) in self.over_with:
            raise Broken(f"{short(id_)} is sent again with token {token}, which has its answer")
        if not self.plan.jumps:
            if id_ in self.table.ended:
                raise Broken(f"{short(id_)} is sent with token {token}, after {self.table.ended[id_]}")
            if (row := self.table.rows[id_]).token != token:
                raise Broken(f"{short(id_)} is sent with token {token}, which is {row.token} by now")
        self.started.setdefault(id_, self.now_s())
        self.wire.add((id_, token))
        process.within_slots()

    def ends(self, id_: UUID, token: int, outcome: Outcome) -> None:
        self.wire.discard((id_, token))
        if isinstance(outcome, Accepted | Unknown):
            self.over_with.add((id_, token))

    def watch(self) -> None:
        """Look whether somebody rests while there is work for him."""
        now, now_s = self.clock(), self.now_s()
        for process in self.processes:
            if not process.works or self.plan.paced or self.plan.jumps:
                continue
            process.within_slots()
            for lane in process.lanes:
                key = (process.name, f"{lane.name} {process.claims}")
                due = any(row.claim.lane == lane.name and row.due_at <= now for row in self.table.rows.values())
                if not due or not process.could_take(lane, now):
                    self.idle_since.pop(key, None)
                elif now_s - self.idle_since.setdefault(key, now_s) > self.plan.poll_s + SLACK_S:
                    raise Broken(f"{process.name} rests with work due in {lane.name} and {lane.free} slots free")

    def judge(self, ended_s: float) -> None:
        """Look at the end whether everything came to its own."""
        if self.table.rows.keys() & self.accepted.keys():
            open_ = {short(id_): row for id_, row in self.table.rows.items() if id_ in self.accepted}
            raise Broken(f"never ended: {open_}")
        for id_, claim in self.accepted.items():
            end = self.table.ended.get(id_)
            if end is None:
                raise Broken(f"{short(id_)} is lost")
            self._judge(id_, claim, end.status, end.at)
        self.tell("all", len(self.accepted), "ended by", round(ended_s, 1))

    def _judge(self, id_: UUID, claim: Claimed, status: Status, at: int) -> None:
        count = self.arrived[id_]
        if status not in FINAL and status is not Status.SENT:
            raise Broken(f"{short(id_)} ended as {status}, which is no end")
        if status in {Status.FAILED, Status.EXPIRED, Status.CANCELLED} and count:
            raise Broken(f"{short(id_)} arrived and is reported as {status}")
        if status is Status.SENT and not count:
            raise Broken(f"{short(id_)} is reported as sent and did not arrive")
        if id_ == self.poison and status is not Status.UNKNOWN:
            raise Broken(f"{short(id_)} is poison and ended as {status}")
        resent = claim.on_unknown is OnUnknown.RESEND and id_ not in self.hopeless
        if self.poison not in {None, id_} and resent and status is not Status.SENT:
            raise Broken(f"{short(id_)} is a neighbour of poison and ended as {status}")
        if claim.on_unknown is OnUnknown.HOLD and count > 1:
            raise Broken(f"{short(id_)} is held after a lost answer and arrived {count} times")
        calm = not (
            self.plan.poison
            or self.plan.crashes
            or self.plan.stops
            or self.plan.freezes
            or self.plan.outages
            or self.plan.jumps
        )
        if calm and count > 1 + self.lied[id_]:
            raise Broken(f"{short(id_)} arrived {count} times, without a crash and with {self.lied[id_]} lost answers")
        if not self.plan.jumps:
            late_by_s = (at - max(claim.deadline_at, START_MS + CHAOS_S * 1000)) / 1000
            plan = self.plan
            most_s = plan.retry.most_s + plan.lease_s + plan.poll_s + plan.breaker.most_s + SLACK_S
            if late_by_s > most_s:
                raise Broken(f"{short(id_)} ended {late_by_s:.1f} s after its deadline")


class Process:
    """One worker: the real parts over a store and adapters that pass through its own fate."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.dead = False
        self.stopping = False
        self.crashing: asyncio.Task[None] | None = None
        self.frozen_until = 0.0
        self.claims = 0
        plan = world.plan
        handles = [
            ProviderHandle(
                name=provider,
                adapter=Adapter(self, provider, plan.concurrency),
                breaker=Breaker(plan.breaker, concurrency=plan.concurrency),
                gate=Gate(plan.concurrency),
                pace=Pace(2, 1000) if plan.paced else None,
                receipts=False,
                idempotent=False,
            )
            for provider in world.channel.providers
        ]
        self.providers = Providers(handles, {"email": world.channel.providers})
        store: Any = Door(self)
        self.store = store
        self.deliver = Deliver(
            consenting=Consenting(store=store, rules=world.rules, clock=world.clock),
            often=NotTooOften(store=store, composer=Composing(), clock=world.clock, secret=b"secret"),  # type: ignore[arg-type] # as below
            spending=Spending(store=store, clock=world.clock, observe=lambda *_: None, log=Log(self)),
            events=EventComposer(store=store, vault=Vault([b"secret"]), clock=world.clock, random=world.dice.random),
            store=store,
            rules=world.rules,
            providers=self.providers,
            composer=Composing(),  # type: ignore[arg-type] # what `Deliver` asks of it
            staging=Staging(Environment.PRODUCTION, StagingSettings()),
            simulator=handles[0].adapter,
            clock=world.clock,
            random=world.dice.random,
            secret=b"secret",
            pause=self.sleep,
            observe=lambda *_: None,
            log=Log(self),
        )
        self.dispatcher = Dispatcher(
            worker=name,
            store=store,
            deliver=self.deliver,
            providers=self.providers,
            rules=world.rules,
            raw=lambda _: b"",
            clock=world.clock,
            id_source=IdSource(),
            lease_ms=plan.lease_s * 1000,
            poll_ms=round(plan.poll_s * 1000),
            on_settled=lambda claim, settlement: world.tell(name, "settled", short(claim.id), settlement.status),
            on_due=lambda _lane: None,
            callers=Callers(),
            log=Log(self),
        )
        if world.broken:
            BREAK[world.broken](self)
        self.running = asyncio.create_task(self.dispatcher.run())

    @property
    def lanes(self) -> list[Lane]:
        return list(self.dispatcher._lanes.values())

    @property
    def works(self) -> bool:
        return not self.dead and not self.stopping and self.frozen_until <= self.world.now_s()

    def within_slots(self) -> None:
        held = Counter(hand.lane.name for hand in self.dispatcher._hands.values())
        for lane in self.lanes:
            if max(lane.in_hand + lane.asked, held[lane.name]) > lane.slots or lane.in_hand < 0 or lane.asked < 0:
                raise Broken(f"{self.name} holds {lane.in_hand} + {lane.asked} of {lane.slots} slots of {lane.name}")

    def could_take(self, lane: Lane, now: int) -> bool:
        """Say whether nothing stands between this process and more work of a lane."""
        healthy = all(one.breaker.state is State.CLOSED and not one.standing.paused for one in self.providers.all())
        enough = lane.free >= max(1, lane.slots // 4) or (lane.free > 0 and lane.in_hand == 0)
        away = self.world.store_away_until > self.world.now_s() - SLACK_S
        return healthy and enough and not away and lane.closed_until <= now

    async def live(self) -> None:
        """Wait as long as this process is frozen; for ever if it is dead."""
        while not self.world.over and self.dead:
            await self.world.for_ever()
        while not self.world.over and self.frozen_until > (now := self.world.now_s()):
            await asyncio.sleep(self.frozen_until - now)
            await self.live()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.live()

    async def accept(self, row: DeliveryRow, claim: Claimed) -> None:
        """Take a request as `router.accept` does: offer, store, and go on or let it wait."""
        [lease] = self.dispatcher.offer([(row, Mode.LIVE)]) if row.status is Status.QUEUED else [None]
        row = msgspec.structs.replace(row, lease=lease)
        try:
            await self.store.insert(row, claim)
        except BaseException:
            if lease is not None:
                self.dispatcher.withdraw(row.lane)
            raise
        self.world.accepted[row.id] = claim
        self.world.tell(self.name, "accepted", short(row.id), "born leased" if lease else "waits", row.lane)
        if lease is not None:
            self.dispatcher.start(msgspec.structs.replace(claim, token=1), lease, checked_at=claim.created_at)
        else:
            self.dispatcher.waiting(row.lane, row.due_at)


class Door:
    """The store as one process sees it: slow, at times away, and deaf to the dead."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.world = process.world

    async def _through(self, act: Callable[[], Any], nothing: Any) -> Any:
        world, process = self.world, self.process
        await process.live()
        await asyncio.sleep(world.dice.choice([0, 0.001, 0.01, 0.05]))
        await process.live()
        if world.over:
            return nothing
        away = world.store_away_until > world.now_s()
        if away and world.dice.random() < 0.7:  # else it works, and the answer is lost
            raise StoreUnavailable("away")
        answer = act()
        if away:
            raise StoreUnavailable("away, after the commit")
        await asyncio.sleep(world.dice.choice([0, 0.001, 0.02]))
        await process.live()
        return answer

    async def insert(self, row: DeliveryRow, claim: Claimed) -> None:
        await self._through(lambda: self.world.table.insert(row, claim), None)

    async def claim(self, wanted: dict[str, int], lease: Lease, now: int) -> list[Claimed]:
        def act() -> list[Claimed]:
            claims = self.world.table.claim(wanted, lease, now)
            self.process.claims += 1
            for claim in claims:
                self.world.taken_over += claim.lost > 0
                self.world.tell(self.process.name, "claims", short(claim.id), f"token {claim.token} lost {claim.lost}")
            return claims

        return await self._through(act, [])

    async def settle(self, settlement: Settlement) -> bool:
        return await self._through(lambda: self.world.table.settle(settlement), nothing=True)

    async def renew(self, claims: Any, until: int) -> set[UUID]:
        return await self._through(lambda: self.world.table.renew(claims, until), set())

    async def release(self, claims: Any, due_at: int) -> None:
        await self._through(lambda: self.world.table.release(claims, due_at), None)

    async def reserve(self, reservation: Reservation) -> int:
        return await self._through(lambda: self.world.table.reserve(reservation), reservation.now)

    async def consent(self, asked: ConsentAsked) -> Consent:
        del asked
        return await self._through(Consent, Consent())


class Adapter:
    """A provider by the dice; `World.trouble` says how it fares."""

    kind: ClassVar[str] = "email"
    Settings: ClassVar[type[msgspec.Struct]] = msgspec.Struct

    def __init__(self, process: Process, provider: str, concurrency: int) -> None:
        self.process, self.world, self.provider = process, process.world, provider
        self.limits = Limits(concurrency=concurrency)

    async def send(self, message: Message) -> Outcome:
        world, process = self.world, self.process
        id_, token = message.options["id"], message.options["token"]
        world.begins(process, id_, token, message.options["lane"])
        if id_ == world.poison:
            process.crashing = asyncio.create_task(world.crash(process))
            await asyncio.sleep(0)
            await _unless_dead(process)
        until, trouble = world.trouble.get(self.provider, (0.0, ""))
        outcome, takes_it = self._outcome(id_, trouble if until > world.now_s() else "")
        await asyncio.sleep(world.dice.choice([0, 0.01, 0.1, 1.0, 1.25 if trouble != "slow" else 9.0]))
        await _unless_dead(process)
        if takes_it and not world.over:
            world.arrived[id_] += 1
            world.lied[id_] += isinstance(outcome, Unknown)
            world.tell(self.provider, "takes", short(id_))
        await asyncio.sleep(world.dice.choice([0, 0.02, 0.3]))
        await process.live()
        world.ends(id_, token, outcome)
        world.tell(self.provider, "answers", short(id_), type(outcome).__name__)
        return outcome

    def _outcome(self, id_: UUID, trouble: str) -> tuple[Outcome, bool]:
        dice = self.world.dice
        if id_ in self.world.hopeless:
            return Rejected(Reason.INVALID_ADDRESS), False
        if trouble == "down":
            return Retry(Reason.PROVIDER_DOWN, dice.choice([None, 0.5, 2.0])), False
        if trouble == "account":
            return Rejected(Reason.ACCOUNT_PROBLEM), False
        if trouble == "flaps" and dice.random() < 0.5:
            return Retry(dice.choice([Reason.PROVIDER_DOWN, Reason.RATE_LIMITED])), False
        if trouble == "lies" and dice.random() < 0.5:
            return Unknown(detail="no answer"), dice.random() < 0.7
        return Accepted("ok"), True

    async def aclose(self) -> None:
        pass


async def _unless_dead(process: Process) -> None:
    """What is on the wire of a frozen process goes on; that of a dead one does not."""
    while process.dead and not process.world.over:
        await process.world.for_ever()


class Composing:
    """Makes messages that carry their claim."""

    async def subject(self, claim: Claimed, _: Any) -> Claimed:
        return claim

    def chosen_sender(self, _: Claimed) -> None:
        return None

    def message(self, claim: Claimed, *, attempt: int, links_for: str | None = None) -> Message:
        assert links_for is None, "nothing is redirected here"
        name = ids.show(ids.DELIVERY, claim.id)
        return Message(
            id=name,
            kind="email",
            to=claim.address,
            content=Content(subject="Hello", text="Hello"),
            attempt=attempt,
            idempotency_key=name,
            options={"id": claim.id, "token": claim.token, "lane": claim.lane},
        )


class Log:
    """What the parts complain of. An exception in the log is a bug, or a promise that an adapter saw broken."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def __getattr__(self, level: str) -> Callable[..., None]:
        def say(event: str, *, exc_info: Any = None, **fields: Any) -> None:
            self.process.world.tell(self.process.name, level, event, fields or "")
            if isinstance(exc_info, BaseException):
                BROKEN.append(exc_info)

        return say

    def exception(self, event: str, **fields: Any) -> None:
        error = sys.exc_info()[1]
        BROKEN.append(error if error is not None else Broken(event))


BROKEN: list[BaseException] = []
"""What was raised in this world: the dispatcher writes it into its log and goes on."""


def _no_lease(process: Process) -> None:
    """Send without a look at the lease."""
    envelope = process.deliver.envelope
    process.deliver.envelope = lambda claim, **more: envelope(claim, **{**more, "lease_until": lambda: 2**62})


def _more_slots(process: Process) -> None:
    """Count a lane's slots before what is in hand."""
    process.dispatcher._wants = lambda lane, now: lane.slots


def _no_wake(process: Process) -> None:
    """Rest for an hour, whatever the poll's turn."""
    process.dispatcher._poll_ms = 3_600_000
    process.dispatcher.waiting = lambda lane, due_at: None


def _no_renewal(process: Process) -> None:
    """Never prolong a lease."""

    async def renew() -> None:
        await asyncio.sleep(3600)

    process.dispatcher._renew = renew


def _all_suspects(process: Process) -> None:
    """Take on all suspects together."""
    dispatcher = process.dispatcher

    async def one_of(suspects: list[Claimed], lease: Lease, now: int) -> None:
        for claim in suspects:
            dispatcher._take(claim, dispatcher._lanes[claim.lane], lease.until, 0)

    dispatcher._one_of = one_of


BREAK: dict[str, Callable[[Process], None]] = {
    "lease": _no_lease,
    "slots": _more_slots,
    "wake": _no_wake,
    "renew": _no_renewal,
    "suspects": _all_suspects,
}
"""What a test breaks, to see that the simulation notices."""


def short(id_: UUID) -> str:
    return f"#{id_.int}"


def _delivery(world: World, number: int, *, priority: Priority | None = None) -> tuple[DeliveryRow, Claimed]:
    """Make a delivery by the dice; with `priority`, one that is due now and will be taken."""
    dice, now = world.dice, world.clock()
    id_ = UUID(int=number)
    if priority is None and dice.random() < 0.1:
        world.hopeless.add(id_)
    due_at = now + (dice.randrange(500, 8000) if priority is None and dice.random() < 0.2 else 0)
    deadline_at = now + round(world.plan.deadline_s * 1000)
    on_unknown = dice.choice([OnUnknown.HOLD, OnUnknown.RESEND])
    lane = lane_of("email", priority or dice.choice(list(Priority)))
    row = DeliveryRow(
        id=id_,
        channel="email",
        lane=lane,
        position=0,
        address=f"user{number}@example.com",
        user_id=None,
        recipient=b"{}",
        status=Status.QUEUED if due_at <= now else Status.HELD,
        due_at=due_at,
        deadline_at=deadline_at,
        on_unknown=on_unknown,
    )
    return row, claim_of(row, now)


def claim_of(row: DeliveryRow, now: int) -> Claimed:
    """Show a delivery as a claim would."""
    return Claimed(
        id=row.id,
        notification_id=row.id,
        project="default",
        mode=Mode.LIVE,
        channel=row.channel,
        lane=row.lane,
        category="default",
        template_key=None,
        template_version=None,
        reference=None,
        request=b"",
        has_attachments=False,
        address=row.address or "",
        user_id=None,
        recipient=b"{}",
        status=row.status,
        attempts=0,
        token=0,
        lost=0,
        granted=False,
        created_at=now,
        due_at=row.due_at,
        deadline_at=row.deadline_at,
        on_unknown=row.on_unknown,
        notification_created_at=now,
    )


async def _accepting(world: World) -> None:
    """Bring deliveries, alone and in bursts, to processes by the dice."""
    tasks: list[asyncio.Task[None]] = []
    for number in range(1, world.plan.deliveries + 1):
        if world.dice.random() < 0.6:
            await asyncio.sleep(world.dice.uniform(0, 2 * CHAOS_S / world.plan.deliveries))
        row, claim = _delivery(world, number)
        alive = [one for one in world.processes if one.works]
        if not alive:
            continue
        process = world.dice.choice(alive)
        tasks.append(asyncio.create_task(_asking(process, row, claim)))
    await asyncio.wait([*tasks, asyncio.create_task(asyncio.sleep(0))], timeout=10)


async def _asking(process: Process, row: DeliveryRow, claim: Claimed) -> None:
    """Be a caller, who is told to come back while the store is away, and does not."""
    with contextlib.suppress(StoreUnavailable):
        await process.accept(row, claim)


async def _at_random(world: World, count: int, act: Callable[[], Any], dice: random.Random | None = None) -> None:
    for at in sorted((dice or world.dice).uniform(0, CHAOS_S) for _ in range(count)):
        await asyncio.sleep(max(0.0, at - world.now_s()))
        found = act()
        if found is not None:
            await found


def _faults(world: World) -> list[Any]:  # noqa: C901 - a list of small faults
    dice, plan = world.dice, world.plan

    def someone() -> Process | None:
        return dice.choice(alive) if (alive := [one for one in world.processes if one.works]) else None

    async def crash() -> None:
        if (one := someone()) is not None:
            await world.crash(one)

    async def stop() -> None:
        if (one := someone()) is not None:
            world.tell(one.name, "STOPS")
            one.stopping = True
            await one.dispatcher.stop(dice.choice([0.1, 2, 20]))
            world.tell(one.name, "stopped")
            one.dead = True
            world.begin()

    def freeze() -> None:
        if (one := someone()) is not None:
            one.frozen_until = world.now_s() + dice.uniform(0.5, 2.5 * plan.lease_s)
            world.tell(one.name, "FREEZES until", round(one.frozen_until, 1))

    def outage() -> None:
        world.store_away_until = world.now_s() + dice.uniform(0.1, 1.5 * plan.lease_s)
        world.tell("STORE AWAY until", round(world.store_away_until, 1))

    def trouble() -> None:
        provider = dice.choice(world.channel.providers)
        kind = dice.choice(["down", "flaps", "lies", "slow", "account"])
        world.trouble[provider] = (world.now_s() + dice.uniform(0.5, 8), kind)
        world.tell(provider, "in trouble:", kind)

    async def pause() -> None:
        provider = dice.choice(world.channel.providers)
        _switch(world, provider, world.clock())
        await asyncio.sleep(dice.uniform(0.5, 5))
        _switch(world, provider, None)

    def jump() -> None:
        world.jumped_ms += dice.choice([-5_000, 5_000, 3_600_000])
        world.tell("CLOCK JUMPS to", world.jumped_ms)

    def cancel() -> None:
        if waiting := sorted(world.table.rows.keys() & world.accepted.keys()):
            id_ = world.fate.choice(waiting)
            world.tell("CANCEL", short(id_), world.table.cancel(id_, world.clock()) or "too late")

    for _ in range(plan.processes):
        world.begin()
    pairs = [
        (plan.crashes, crash),
        (plan.stops, stop),
        (plan.freezes, freeze),
        (plan.outages, outage),
        (plan.troubles, trouble),
        (plan.pauses, pause),
        (plan.jumps, jump),
    ]
    cancels = [_at_random(world, plan.cancels, cancel, world.fate)] if plan.cancels else []
    return [*[_at_random(world, count, act) for count, act in pairs if count], *cancels]


def _switch(world: World, provider: str, paused_at: int | None) -> None:
    """Pause or resume a provider everywhere, as `router.attending` does."""
    world.tell(provider, "paused" if paused_at else "resumed")
    for process in world.processes:
        handle = process.providers.named(provider)
        assert handle is not None
        handle.standing.paused_at = paused_at
        if paused_at is None:
            process.dispatcher.reopen("email")
    if paused_at is None:
        for row in world.table.rows.values():
            if row.worker is None:
                row.due_at = min(row.due_at, max(world.clock(), row.claim.due_at))


async def _upkeep(world: World) -> None:
    while True:
        await asyncio.sleep(2)
        world.table.expire(world.clock())
        for id_ in sorted(world.table.called_back):
            world.table.cancel(id_, world.clock())


async def _watching(world: World) -> None:
    while True:
        await asyncio.sleep(0.5)
        world.watch()


async def _run(world: World) -> None:
    chaos = [asyncio.create_task(one) for one in [*_faults(world), _accepting(world)]]
    beside = [asyncio.create_task(one) for one in (_upkeep(world), _watching(world))]
    try:
        await asyncio.wait(chaos, timeout=CHAOS_S + 60)
        for task in chaos:
            if task.done() and not isinstance(task.exception(), StoreUnavailable | None):
                raise task.exception() or Broken("a fault failed")
        world.store_away_until = 0
        while world.table.rows.keys() & world.accepted.keys() or world.now_s() < CHAOS_S:
            await asyncio.sleep(0.5)
            _look(world, beside)
            if world.now_s() > 400:
                break
        _look(world, beside)
        world.judge(world.now_s())
    finally:
        world.over = True
    for task in (one.running for one in world.processes):
        if task.done():
            task.result()


def _look(world: World, beside: list[asyncio.Task[None]]) -> None:
    if BROKEN:
        raise BROKEN[0]
    for task in [*beside, *(one.running for one in world.processes if one.works)]:
        if task.done():
            task.result()


def simulate(seed: int, *, tell: Callable[[str], None] | None = None, broken: str = "") -> World:
    """Run one seed; raises `Broken` (or whatever bug it met). `broken` names a part to break on purpose."""
    BROKEN.clear()
    world = World(seed, tell=tell, broken=broken)
    run_virtually(_run(world))
    return world


async def _rushing(world: World) -> tuple[float, float]:
    """Flood one process with bulk, bring what is critical at random moments; answers the longest wait and its bound."""
    process = Process(world, "w1")
    asked: dict[UUID, float] = {}
    await asyncio.sleep(0.1)
    flood = [_delivery(world, number, priority=Priority.BULK) for number in range(1, 80)]
    tasks = [asyncio.create_task(process.accept(*one)) for one in flood]
    for number in range(1001, 1011):
        await asyncio.sleep(world.dice.uniform(0.5, 2))
        urgent = _delivery(world, number, priority=Priority.CRITICAL)
        asked[urgent[0].id] = world.now_s()
        tasks.append(asyncio.create_task(process.accept(*urgent)))
    await asyncio.gather(*tasks)
    for _ in range(1000):
        await asyncio.sleep(0.1)
        if asked.keys() <= world.started.keys():
            break
    world.over = True
    # What is on the wire already is finished first, then other urgent ones before it; the store takes its time, too.
    return max(world.started[id_] - at for id_, at in asked.items()), 2 * SEND_MOST_S + 0.5


def rush(seed: int) -> tuple[float, float]:
    """Run a world of one slow provider and no fault, full of bulk; see `_rushing`."""
    world = World(seed)
    plan = msgspec.structs.replace(world.plan, **QUIET, processes=1, providers=1, slots=8, paced=False, poison=False)
    world.poison = None
    world.plan = msgspec.structs.replace(plan, concurrency=2, deadline_s=600.0)
    return run_virtually(_rushing(world))


def coverage(worlds: list[World]) -> Counter[str]:
    """Count what happened in these worlds, to see that the dice reach everywhere."""
    found: Counter[str] = Counter()
    for world in worlds:
        found.update(end.status.value for end in world.table.ended.values())
        found["twice"] += sum(count > 1 for count in world.arrived.values())
        found["taken over"] += world.taken_over
        found["crashed"] += sum(one.dead and not one.stopping for one in world.processes)
        found["frozen"] += sum(one.frozen_until > 0 for one in world.processes)
    return found


if __name__ == "__main__":
    told = simulate(int(sys.argv[1]), tell=print)
    print(dict(defaultdict(int, coverage([told]))))
