"""Thousands of worlds, each by its seed: what the dispatcher promises holds in all of them."""

from __future__ import annotations

import os
import random
from collections import Counter

import msgspec
import pytest

from gateway.model.ids import IdSource
from gateway.model.states import Status
from gateway.storage.contract import Claimed
from gateway.storage.store import SqlStore
from tests.router.simulation import claim_of, coverage, rush, simulate
from tests.router.table import Table
from tests.storage.rows import LANE, Clock, Rows

SEEDS = 5_000 if os.environ.get("FAULTS") == "long" else 400
FIRST = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))


def test_in_every_world_the_promises_hold():
    seen: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + SEEDS):
        try:
            seen += coverage([simulate(seed)])
        except Exception as error:
            again = f"python -m tests.router.simulation {seed}"
            raise AssertionError(f"seed {seed}: {error}\nits story: {again}") from error
    reached = {name for name, count in seen.items() if count}
    assert reached >= {
        "sent",
        "failed",
        "unknown",
        "expired",
        "cancelled",
        "twice",
        "crashed",
        "frozen",
        "taken over",
    }, seen


def test_a_seed_tells_the_same_story_every_time():
    stories: list[list[str]] = [[], []]
    for story in stories:
        simulate(FIRST, tell=story.append)
    assert stories[0] == stories[1]
    assert len(stories[0]) > 10


@pytest.mark.parametrize("seed", range(20))
def test_bulk_does_not_delay_what_is_critical(seed):
    waited_s, bound_s = rush(seed)
    assert waited_s <= bound_s


@pytest.mark.parametrize("broken", ["lease", "slots", "wake", "renew", "suspects"])
def test_a_broken_dispatcher_is_found_out(broken):
    """The simulation itself: each promise has a fault that breaks it, and some world shows it."""
    for seed in range(300):
        try:
            simulate(seed, broken=broken)
        except Exception:  # noqa: BLE001 - any complaint will do
            return
    raise AssertionError(f"nobody noticed that {broken} is broken")


async def test_the_queue_in_memory_answers_as_the_real_one(tmp_path):
    """The same calls at random: the same claims, with the same tokens, losses and attempts."""
    for round_ in range(12):
        clock = Clock()
        store = SqlStore(f"sqlite:///{tmp_path}/{round_}.db", clock, IdSource())
        await store.open()
        try:
            await _compare(random.Random(f"{FIRST}:{round_}"), store, Rows(clock), clock)
        finally:
            await store.close()


async def _compare(dice: random.Random, store: SqlStore, rows: Rows, clock: Clock) -> None:
    table = Table()
    held: list[Claimed] = []
    for _ in range(40):
        clock.later(dice.randrange(0, 40))
        match dice.choice(["insert", "insert", "claim", "claim", "settle", "settle", "renew", "release", "cancel"]):
            case "insert":
                lease = dice.choice([None, rows.lease("born", for_ms=50)])
                row = rows.delivery(lease=lease, due_at=clock.now + dice.choice([0, 0, 30]))
                made = rows.acceptance(row)
                await store.accept(made)
                claim = msgspec.structs.replace(claim_of(row, clock.now), notification_id=made.notification.id)
                table.insert(row, claim)
                if lease is not None:
                    held.append(msgspec.structs.replace(claim_of(row, clock.now), token=1))
            case "claim":
                wanted, lease = {LANE: dice.randrange(1, 5)}, rows.lease("w", for_ms=dice.choice([20, 500]))
                real = await store.claim(wanted, lease, clock.now)
                ours = table.claim(wanted, lease, clock.now)
                assert [_seen(one) for one in ours] == [_seen(one) for one in real]
                held += real
            case "settle" if held:
                claim = dice.choice(held)
                status = dice.choice([Status.FAILED, Status.HELD, Status.UNKNOWN])
                settlement = rows.settlement(
                    claim,
                    status,
                    due_at=clock.now + dice.choice([0, 30]),
                    granted=dice.random() < 0.5,
                    unsure=dice.random() < 0.5,
                    attempts=(rows.attempt(number=claim.token),) if status is Status.HELD else (),
                )
                assert table.settle(settlement) == await store.settle(settlement)
            case "cancel" if table.rows:
                id_ = dice.choice(sorted(table.rows))
                [told] = await store.cancel(table.rows[id_].claim.notification_id, clock.now)
                assert (told.status if told.changed else None) == table.cancel(id_, clock.now)
            case "renew" | "release" as verb if held:
                some = [(one.id, one.token) for one in dice.sample(held, min(3, len(held)))]
                until = clock.now + dice.choice([0, 50])
                assert getattr(table, verb)(some, until) == await getattr(store, verb)(some, until)
            case _:
                pass


def _seen(claim: Claimed) -> tuple[object, ...]:
    return (claim.id, claim.token, claim.attempts, claim.lost, claim.granted, claim.unsure)
