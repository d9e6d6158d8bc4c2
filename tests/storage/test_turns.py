"""Channels in turn, on both databases: who is let go, who is called off, and that no chain is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest
from sqlalchemy import Connection

from gateway.model import ids
from gateway.model.ids import IdSource
from gateway.model.states import NotificationStatus, Status, Strategy, Why
from gateway.model.turns import NEVER
from gateway.storage.contract import Acceptance, Claimed, DeliveryRow, DeliveryView, Turn
from gateway.storage.store import SqlStore
from tests.storage.conftest import OpenStore
from tests.storage.rows import DAY, Clock, Rows

CHANNELS = ("email", "sms", "slack")
LANES = {f"{channel}:normal": 10 for channel in CHANNELS}
BUDGET = 3_600_000
AFTER = 300_000
FIRST, ESCALATE = Strategy.FIRST_SUCCESS, Strategy.ESCALATE


def chain(
    rows: Rows, strategy: Strategy = FIRST, *, position: int = 0, each: Sequence[int] = (1, 1, 1), limit: int = NEVER
) -> list[DeliveryRow]:
    """Make a chain as `plan` makes it, with `each` addresses on each channel."""
    made: list[DeliveryRow] = []
    for step, number in enumerate(each):
        due = rows.clock.now + step * AFTER if strategy is ESCALATE or not step else NEVER
        made += [
            rows.delivery(
                channel=CHANNELS[step],
                lane=f"{CHANNELS[step]}:normal",
                position=position,
                status=Status.HELD if step else Status.QUEUED,
                reason=Why.FALLBACK if step else None,
                due_at=due,
                deadline_at=min(limit, due + BUDGET) if due < NEVER else limit,
                turn=Turn(step=step, strategy=strategy, budget_ms=BUDGET),
            )
            for _ in range(number)
        ]
    return made


async def accepted(store: SqlStore, rows: Rows, *deliveries: DeliveryRow) -> Acceptance:
    made = rows.acceptance(*deliveries)
    await store.accept(made)
    return made


async def claim(store: SqlStore, rows: Rows) -> list[Claimed]:
    return await store.claim(LANES, rows.lease(), rows.clock.now)


async def states(store: SqlStore, made: Acceptance) -> list[tuple[Status, Why | None]]:
    return [(one.status, one.reason) for one in await store.deliveries(made.notification.id)]


async def one(store: SqlStore, id_: UUID) -> DeliveryView:
    found = await store.delivery(None, id_)
    assert found is not None
    return found


async def settled(store: SqlStore, rows: Rows, claimed: Claimed, status: Status, **more: object) -> None:
    reason = {Status.FAILED: Why.GAVE_UP, Status.HELD: Why.RETRY}.get(status)
    assert await store.settle(rows.settlement(claimed, status, **{"reason": reason} | more))


WAITS = (Status.HELD, Why.FALLBACK)
OFF = (Status.SKIPPED, Why.NOT_NEEDED)


@pytest.mark.parametrize("strategy", [FIRST, ESCALATE])
async def test_a_failure_lets_the_next_one_go_at_once_with_a_time_of_its_own(
    store: SqlStore, rows: Rows, clock: Clock, strategy: Strategy
) -> None:
    heard: list[str] = []
    store.on_turn(heard.append)
    made = await accepted(store, rows, *chain(rows, strategy))
    [first] = await claim(store, rows)
    clock.later(BUDGET // 2 if strategy is FIRST else AFTER // 2)
    await settled(store, rows, first, Status.FAILED)
    assert heard == ["sms:normal"]
    assert await states(store, made) == [(Status.FAILED, Why.GAVE_UP), (Status.QUEUED, None), WAITS]
    [second] = await claim(store, rows)
    assert (second.channel, second.deadline_at) == ("sms", clock.now + BUDGET)
    why = f"email ({ids.show(ids.DELIVERY, first.id)}): failed (gave_up)"
    assert (await one(store, second.id)).detail == why
    await settled(store, rows, second, Status.FAILED)
    [third] = await claim(store, rows)
    await settled(store, rows, third, Status.FAILED)
    shown = await store.notification(None, made.notification.id)
    assert shown is not None
    assert (shown.status, shown.counts) == (NotificationStatus.COMPLETED, {"failed": 3})
    events = [(told.type, told.reason) for told in await store.events(made.notification.id)]
    assert events.count(("delivery.queued", None)) == 3
    assert events[-1] == ("notification.completed", None)


@pytest.mark.parametrize("status", [Status.SENT, Status.CAPTURED, Status.UNKNOWN])
async def test_a_success_calls_off_all_that_wait_and_completes(
    store: SqlStore, rows: Rows, clock: Clock, status: Status
) -> None:
    made = await accepted(store, rows, *chain(rows))
    [first] = await claim(store, rows)
    await settled(store, rows, first, status, final=True)
    assert await states(store, made) == [(status, None), OFF, OFF]
    assert f": {status}" in str((await one(store, made.deliveries[2].id)).detail)
    shown = await store.notification(None, made.notification.id)
    assert shown is not None
    assert shown.status is NotificationStatus.COMPLETED
    assert await store.waiting() == 0
    assert await claim(store, rows) == []


async def test_a_retry_lets_nobody_go_and_a_receipt_to_come_keeps_them_waiting(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    made = await accepted(store, rows, *chain(rows))
    [first] = await claim(store, rows)
    await settled(store, rows, first, Status.HELD, due_at=clock.now)
    assert await states(store, made) == [(Status.HELD, Why.RETRY), WAITS, WAITS]
    [first] = await claim(store, rows)
    await store.settle(rows.sent(first, "x"))
    assert await states(store, made) == [(Status.SENT, None), WAITS, WAITS]
    assert await store.apply_status([rows.change("bounced", provider_id="x")], clock.now) == 1
    assert await states(store, made) == [(Status.BOUNCED, None), (Status.QUEUED, None), WAITS]


async def test_a_receipt_that_never_comes_counts_as_sent(store: SqlStore, rows: Rows, clock: Clock) -> None:
    made = await accepted(store, rows, *chain(rows))
    [first] = await claim(store, rows)
    await store.settle(rows.sent(first, "x"))
    clock.later(4 * DAY)
    await store.upkeep(rows.rules(receipts_before=clock.now - 3 * DAY), clock.now)
    assert await states(store, made) == [(Status.SENT, None), OFF, OFF]
    shown = await store.notification(None, made.notification.id)
    assert shown is not None
    assert shown.status is NotificationStatus.COMPLETED


async def test_a_report_that_came_early_is_heard_by_those_behind(store: SqlStore, rows: Rows, clock: Clock) -> None:
    made = await accepted(store, rows, *chain(rows, ESCALATE))
    [first] = await claim(store, rows)
    await store.apply_status([rows.change("delivered", provider_id="x")], clock.now)
    await store.settle(rows.sent(first, "x"))
    assert await states(store, made) == [(Status.DELIVERED, None), OFF, OFF]


@pytest.mark.parametrize("sign", ["delivered", "seen", "read", "opened", "clicked", "acknowledged"])
async def test_escalating_stops_at_any_sign(store: SqlStore, rows: Rows, clock: Clock, sign: str) -> None:
    made = await accepted(store, rows, *chain(rows, ESCALATE))
    [first] = await claim(store, rows)
    await store.settle(rows.sent(first, "x"))
    clock.later(AFTER)
    [second] = await claim(store, rows)
    await store.settle(rows.sent(second, "y", final=True))
    assert (await states(store, made))[2] == WAITS
    assert await store.apply_status([rows.change(sign, provider_id="x")], clock.now) == 1
    assert (await states(store, made))[2] == OFF
    assert f": {sign}" in str((await one(store, made.deliveries[2].id)).detail)


async def test_escalating_goes_on_by_time_whatever_sent_and_unknown_say(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    made = await accepted(store, rows, *chain(rows, ESCALATE))
    for channel, status in zip(CHANNELS, (Status.SENT, Status.UNKNOWN, Status.SENT), strict=True):
        [claimed] = await claim(store, rows)
        assert claimed.channel == channel
        await settled(store, rows, claimed, status, final=True)
        assert await claim(store, rows) == []
        clock.later(AFTER)
    shown = await store.notification(None, made.notification.id)
    assert shown is not None
    assert shown.counts == {"sent": 2, "unknown": 1}


async def test_what_had_its_turn_and_waits_for_a_retry_is_called_off_too_but_not_what_is_being_sent(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    made = await accepted(store, rows, *chain(rows, ESCALATE))
    [first] = await claim(store, rows)
    await store.settle(rows.sent(first, "x"))
    clock.later(AFTER)
    [second] = await claim(store, rows)
    await settled(store, rows, second, Status.HELD, due_at=clock.now + DAY)
    clock.later(AFTER)
    [third] = await claim(store, rows)
    await store.apply_status([rows.change("delivered", provider_id="x")], clock.now)
    assert await states(store, made) == [(Status.DELIVERED, None), OFF, (Status.SENDING, None)]
    await settled(store, rows, third, Status.SENT, final=True)


async def test_several_addresses_of_one_step_fail_together_or_not_at_all(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    made = await accepted(store, rows, *chain(rows, each=(2, 2)))
    one_, other = await claim(store, rows)
    await settled(store, rows, one_, Status.FAILED)
    assert (await states(store, made))[2:] == [WAITS, WAITS]
    await settled(store, rows, other, Status.FAILED)
    assert (await states(store, made))[2:] == [(Status.QUEUED, None)] * 2
    one_, other = await claim(store, rows)
    await settled(store, rows, one_, Status.SENT, final=True)
    await settled(store, rows, other, Status.FAILED)


async def test_two_that_settle_the_last_of_a_step_at_once_never_leave_the_next_one_waiting(
    open_store: OpenStore, rows: Rows
) -> None:
    stores = [await open_store() for _ in range(2)]
    made = [await accepted(stores[0], rows, *chain(rows, each=(2, 1))) for _ in range(20)]
    claims = await stores[0].claim({"email:normal": 40}, rows.lease(), rows.clock.now)
    assert len(claims) == 40
    await asyncio.gather(
        *[settled(stores[place % 2], rows, claimed, Status.FAILED) for place, claimed in enumerate(claims)]
    )
    for acceptance in made:
        assert (await states(stores[0], acceptance))[2] == (Status.QUEUED, None)


async def test_expiry_moves_on_unless_all_expire(store: SqlStore, rows: Rows, clock: Clock) -> None:
    made = await accepted(store, rows, *chain(rows))
    limited = await accepted(store, rows, *chain(rows, limit=clock.now + BUDGET))
    clock.later(BUDGET)
    heard: list[str] = []
    store.on_turn(heard.append)
    await store.upkeep(rows.rules(), clock.now)
    assert await states(store, made) == [(Status.EXPIRED, Why.EXPIRED), (Status.QUEUED, None), WAITS]
    assert await states(store, limited) == [(Status.EXPIRED, Why.EXPIRED)] * 3
    assert heard == ["sms:normal"]


async def test_cancelling_calls_back_all_that_wait_and_nothing_follows(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    made = await accepted(store, rows, *chain(rows))
    [first] = await claim(store, rows)
    answers = await store.cancel(made.notification.id, clock.now)
    assert [told.status for told in answers] == [Status.SENDING, Status.CANCELLED, Status.CANCELLED]
    await settled(store, rows, first, Status.FAILED)
    assert (await states(store, made))[1:] == [(Status.CANCELLED, Why.CANCELLED)] * 2
    assert await store.waiting() == 0


async def test_cancelling_and_failing_at_once_never_leave_anything_open(open_store: OpenStore, rows: Rows) -> None:
    stores = [await open_store() for _ in range(2)]
    made = [await accepted(stores[0], rows, *chain(rows)) for _ in range(20)]
    claims = {
        claimed.notification_id: claimed
        for claimed in await stores[0].claim({"email:normal": 20}, rows.lease(), rows.clock.now)
    }
    await asyncio.gather(
        *[settled(stores[0], rows, claims[acceptance.notification.id], Status.FAILED) for acceptance in made],
        *[stores[1].cancel(acceptance.notification.id, rows.clock.now) for acceptance in made],
    )
    for acceptance in made:
        assert {status for status, _ in await states(stores[0], acceptance)} == {Status.FAILED, Status.CANCELLED}
    assert await stores[0].waiting() == 0


async def test_a_chain_whose_first_row_vanished_or_was_settled_by_older_code_goes_on(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    gone = await accepted(store, rows, *chain(rows))
    failed = await accepted(store, rows, *chain(rows))
    done = await accepted(store, rows, *chain(rows))
    patient = await accepted(store, rows, *chain(rows))

    def behind_its_back(conn: Connection) -> None:
        def raw(made: Acceptance) -> str:
            id_ = made.deliveries[0].id
            return f"'{id_}'" if conn.dialect.name == "postgresql" else f"x'{id_.hex}'"

        conn.exec_driver_sql(f"DELETE FROM deliveries WHERE id = {raw(gone)}")
        conn.exec_driver_sql(f"UPDATE deliveries SET status = 'failed', final = TRUE WHERE id = {raw(failed)}")
        conn.exec_driver_sql(f"UPDATE deliveries SET status = 'delivered', final = TRUE WHERE id = {raw(done)}")
        conn.exec_driver_sql(f"DELETE FROM queue WHERE delivery_id IN ({raw(gone)}, {raw(failed)}, {raw(done)})")

    await store._db.write(behind_its_back)
    await store.upkeep(rows.rules(), clock.later(59_999))
    assert (await states(store, failed))[1:] == [WAITS, WAITS]
    heard: list[str] = []
    store.on_turn(heard.append)
    await store.upkeep(rows.rules(), clock.later(1))
    assert await states(store, gone) == [(Status.QUEUED, None), WAITS]
    assert (await states(store, failed))[1:] == [(Status.QUEUED, None), WAITS]
    assert (await states(store, done))[1:] == [OFF, OFF]
    assert await states(store, patient) == [(Status.QUEUED, None), WAITS, WAITS]
    assert heard == ["sms:normal"]


async def test_what_waits_is_looked_at_ever_more_rarely_and_forgotten_when_it_waits_no_more(
    store: SqlStore, rows: Rows, clock: Clock
) -> None:
    def watched(conn: Connection) -> list[int]:
        return sorted(row[0] for row in conn.exec_driver_sql("SELECT look_at FROM turns"))

    made = await accepted(store, rows, *chain(rows))
    start = clock.now
    for after in (60_000, 120_000, 240_000):
        assert await store._db.read(watched) == [start + after] * 2
        clock.now = start + after
        await store.upkeep(rows.rules(), clock.now)
    await store.cancel(made.notification.id, clock.now)
    await store.upkeep(rows.rules(), clock.later(DAY))
    assert await store._db.read(watched) == []


async def test_retention_takes_whole_chains(store: SqlStore, rows: Rows, clock: Clock) -> None:
    made = await accepted(store, rows, *chain(rows))
    [first] = await claim(store, rows)
    await settled(store, rows, first, Status.SENT, final=True)
    await store.upkeep(rows.rules(notifications_before=clock.later(DAY)), clock.now)
    assert await store.notification(None, made.notification.id) is None
    await store.upkeep(rows.rules(), clock.later(DAY))

    def left(conn: Connection) -> int:
        return conn.exec_driver_sql(
            "SELECT (SELECT count(*) FROM turns) + (SELECT count(*) FROM deliveries)"
        ).scalar_one()

    assert await store._db.read(left) == 0


async def test_recipients_have_chains_of_their_own(store: SqlStore, rows: Rows) -> None:
    made = await accepted(store, rows, *chain(rows, position=0), *chain(rows, position=1))
    one_, other = await claim(store, rows)
    await settled(store, rows, one_, Status.FAILED)
    await settled(store, rows, other, Status.SENT, final=True)
    assert await states(store, made) == [
        (Status.FAILED, Why.GAVE_UP), (Status.QUEUED, None), WAITS, (Status.SENT, None), OFF, OFF,
    ]  # fmt: skip


async def test_what_is_in_no_chain_pays_for_none(tmp_path: object, rows: Rows, clock: Clock) -> None:
    """One statement more per settled batch would be noticed here."""
    store = SqlStore(f"sqlite:///{tmp_path}/gateway.db", clock, IdSource())
    await store.open()
    texts: list[str] = []
    await store._db.write(lambda conn: conn.connection.driver_connection.set_trace_callback(texts.append))
    await store.accept(rows.acceptance())
    claimed = await rows.claim_one(store)
    await settled(store, rows, claimed, Status.FAILED)
    assert texts
    assert not [text for text in texts if "turns" in text or "step > " in text or "collapsing" in text]
    await accepted(store, rows, *chain(rows))
    assert [text for text in texts if "turns" in text]
    await store.close()
