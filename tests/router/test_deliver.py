"""Each layer of the onion, tried over a real store with providers that answer by script."""

from __future__ import annotations

import asyncio
import base64

import msgspec
import pytest

from channels.contract import Accepted, Reason, Rejected, Retry, Unknown
from gateway.middleware.contract import Dropped, Held, Kept
from gateway.middleware.rate_limit import Pace
from gateway.model.states import OnUnknown, Priority, Status, Why
from gateway.router.deliver import Abandoned
from gateway.storage.contract import Lease, StoreUnavailable, SuppressionRow
from tests.router.house import Between, Scripted, house

RETRY = {"channels": {"email": {"retry": {"attempts": 4, "first_s": 10, "factor": 2}}}}
DOWN = Retry(Reason.PROVIDER_DOWN, detail="refused")
LIMITED = Retry(Reason.RATE_LIMITED, after=3600, detail="quota")


async def delivered(place, **more):
    await place.send(**more)
    claim = await place.claim()
    return await place.deliver.deliver(place.envelope(claim))


async def test_an_accepted_message_is_the_providers_word(tmp_path):
    one = Scripted(Accepted("id-1"))
    async with house(tmp_path, one) as place:
        done = await delivered(place)
        assert done.verdict == Accepted("id-1")
        assert (done.provider, [a.outcome for a in done.attempts]) == ("p1", ["accepted"])
        assert one.seen[0].attempt == 1


@pytest.mark.parametrize("outcome", [DOWN, Retry(Reason.TIMED_OUT), Rejected(Reason.ACCOUNT_PROBLEM)])
async def test_what_is_no_fault_of_the_message_goes_to_the_next_provider_at_once(tmp_path, outcome):
    first, second = Scripted(outcome), Scripted()
    async with house(tmp_path, first, second) as place:
        done = await delivered(place)
        assert isinstance(done.verdict, Accepted)
        assert [(a.number, a.provider) for a in done.attempts] == [(1, "p1"), (2, "p2")]
        assert first.seen[0].id == second.seen[0].id
        assert [message.attempt for message in (first.seen[0], second.seen[0])] == [1, 2]


@pytest.mark.parametrize(
    "outcome", [Rejected(Reason.ADDRESS_DEAD), Rejected(Reason.POLICY), Rejected(Reason.TOO_LARGE)]
)
async def test_what_is_the_messages_fault_goes_nowhere_else(tmp_path, outcome):
    first, second = Scripted(outcome), Scripted()
    async with house(tmp_path, first, second) as place:
        assert (await delivered(place)).verdict == outcome
        assert second.seen == []


async def test_an_unknown_answer_never_fails_over_and_is_resent_or_kept_by_rule(tmp_path):
    lost = Unknown(detail="closed after the dot")
    for rule, kind in [("resend", Held), ("hold", Dropped)]:
        first, second = Scripted(lost), Scripted()
        folder = tmp_path / rule
        folder.mkdir()
        async with house(folder, first, second, categories={"default": {"on_unknown": rule}}) as place:
            done = await delivered(place)
            assert isinstance(done.verdict, kind)
            assert second.seen == []
            if isinstance(done.verdict, Dropped):
                assert (done.verdict.status, done.verdict.reason) == (Status.UNKNOWN, Why.TIMED_OUT)


async def test_an_idempotent_provider_is_asked_again_even_where_the_rule_is_hold(tmp_path):
    one = Scripted(Unknown(), idempotent=True)
    async with house(tmp_path, one, categories={"default": {"on_unknown": "hold"}}) as place:
        assert isinstance((await delivered(place)).verdict, Held)


async def test_an_adapter_that_raises_may_have_sent(tmp_path):
    one, other = Scripted(RuntimeError("bug")), Scripted()
    async with house(tmp_path, one, other, categories={"default": {"on_unknown": "hold"}}) as place:
        done = await delivered(place)
        assert (done.verdict.status, done.attempts[0].outcome) == (Status.UNKNOWN, "unknown")
        assert "RuntimeError" in done.attempts[0].detail
        assert other.seen == []


async def test_a_rate_limit_is_waited_for_where_it_was_met(tmp_path):
    first, second = Scripted(Retry(Reason.RATE_LIMITED, after=30)), Scripted()
    async with house(tmp_path, first, second, **RETRY) as place:
        verdict = (await delivered(place)).verdict
        assert isinstance(verdict, Held)
        assert verdict.until == place.clock() + 30_000
        assert second.seen == []


async def test_a_wish_beyond_the_deadline_goes_to_the_next_provider(tmp_path):
    first, second = Scripted(LIMITED), Scripted()
    async with house(tmp_path, first, second, categories={"default": {"expires_after_s": 60}}) as place:
        done = await delivered(place)
        assert isinstance(done.verdict, Accepted)
        assert done.provider == "p2"


async def test_a_wish_beyond_the_deadline_fails_only_where_no_other_may_yet_take_it(tmp_path):
    quick = {"categories": {"default": {"expires_after_s": 60}}}
    for number, (scripts, ending) in enumerate(
        [
            ([LIMITED], (Status.FAILED, Why.GAVE_UP)),
            ([LIMITED, LIMITED], (Status.FAILED, Why.GAVE_UP)),
            ([LIMITED, DOWN], Why.RETRY),
            ([DOWN, LIMITED], Why.RETRY),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with house(folder, *[Scripted(one) for one in scripts], **quick) as place:
            verdict = (await delivered(place)).verdict
            if isinstance(ending, tuple):
                assert (verdict.status, verdict.reason) == ending, scripts
            else:
                assert isinstance(verdict, Held), scripts
                assert verdict.reason is ending
                assert verdict.until < place.clock() + 60_000


async def test_a_wish_beyond_the_deadline_waits_for_a_provider_that_is_only_left_alone(tmp_path):
    quick = {"expires_after_s": 60}
    breaker = {"breaker": {"failures": 1, "first_s": 5, "most_s": 5}}
    first, second = Scripted(LIMITED), Scripted(DOWN)
    async with house(tmp_path, first, second, categories={"default": quick}, channels={"email": breaker}) as place:
        second_handle = place.providers.of("email")[1]
        second_handle.breaker.record(DOWN, place.clock())
        verdict = (await delivered(place)).verdict
        assert isinstance(verdict, Held)
        assert verdict.reason is Why.PROVIDER_DOWN


async def test_a_lost_worker_counts_as_an_attempt_and_its_delivery_follows_the_rule(tmp_path):
    for rule, status in [("resend", "sent"), ("hold", Status.UNKNOWN)]:
        folder = tmp_path / rule
        folder.mkdir()
        one = Scripted()
        async with house(folder, one, categories={"default": {"on_unknown": rule}}) as place:
            await place.send()
            await place.claim(worker="lost", lease_ms=10)
            place.clock.advance(1)
            claim = await place.claim()
            assert claim.lost == 1
            done = await place.deliver.deliver(place.envelope(claim))
            assert done.attempts[0].outcome == "unknown"
            if rule == "resend":
                assert isinstance(done.verdict, Accepted), status
                assert [a.number for a in done.attempts] == [1, 2]
            else:
                assert done.verdict.status is status
                assert one.seen == []


async def test_a_delivery_that_keeps_losing_its_worker_ends_unknown(tmp_path):
    one = Scripted()
    async with house(tmp_path, one, **RETRY) as place:
        await place.send()
        for _ in range(4):
            await place.claim(worker="crashing", lease_ms=10)
            place.clock.advance(1)
        claim = await place.claim()
        assert claim.lost == 4
        done = await place.deliver.deliver(place.envelope(claim))
        assert (done.verdict.status, len(done.attempts)) == (Status.UNKNOWN, 4)
        assert one.seen == []


async def test_what_was_lost_and_is_too_late_now_is_not_called_unsent(tmp_path):
    async with house(tmp_path, Scripted(), categories={"default": {"expires_after_s": 60}}) as place:
        await place.send()
        await place.claim(worker="lost", lease_ms=10)
        place.clock.advance(61)
        done = await place.deliver.deliver(place.envelope(await place.claim()))
        assert (done.verdict.status, done.verdict.reason) == (Status.UNKNOWN, Why.TIMED_OUT)


async def test_what_was_lost_and_is_left_out_by_a_rule_is_not_called_unsent(tmp_path):
    async with house(tmp_path, Scripted()) as place:
        await place.send("ada@example.com", collapse_key="k")
        await place.claim(worker="lost", lease_ms=10)
        place.clock.advance(1)
        old = await place.claim()
        await place.send("ada@example.com", collapse_key="k")
        done = await place.deliver.deliver(place.envelope(old))
        assert (done.verdict.status, done.verdict.reason) == (Status.UNKNOWN, Why.COLLAPSED)
        assert done.verdict.detail.startswith("replaced by a newer one; an earlier attempt's answer was lost")
        newer = await place.claim()
        row = SuppressionRow(
            channel="email", address="ada@example.com", reason=Why.SUPPRESSED, source="manual", created_at=1
        )
        await place.store.suppress(row)
        unsure = msgspec.structs.replace(newer, unsure=True)
        done = await place.deliver.deliver(place.envelope(unsure))
        assert (done.verdict.status, done.verdict.reason) == (Status.UNKNOWN, Why.SUPPRESSED)


async def test_what_was_lost_and_is_refused_for_our_account_in_the_end_is_not_called_unsent(tmp_path):
    refuses = Scripted(Rejected(Reason.ACCOUNT_PROBLEM))
    async with house(tmp_path, refuses, channels={"email": {"retry": {"attempts": 2}}}) as place:
        await place.send()
        await place.claim(worker="lost", lease_ms=10)
        place.clock.advance(1)
        done = await place.deliver.deliver(place.envelope(await place.claim()))
        assert [attempt.outcome for attempt in done.attempts] == ["unknown", "rejected"]
        assert (done.verdict.status, done.verdict.reason) == (Status.UNKNOWN, Why.TIMED_OUT)


async def test_the_deadline_and_the_suppression_list_are_asked_again_before_sending(tmp_path):
    one = Scripted()
    async with house(tmp_path, one, categories={"default": {"expires_after_s": 60}}) as place:
        await place.send("Ada@example.com")
        claim = await place.claim(lease_ms=600_000)
        row = SuppressionRow(
            channel="email", address="ada@example.com", reason=Why.COMPLAINED, source="hand", created_at=place.clock()
        )
        await place.store.suppress(row)
        done = await place.deliver.deliver(place.envelope(claim))
        assert (done.verdict.status, done.verdict.reason) == (Status.SKIPPED, Why.SUPPRESSED)
        await place.store.unsuppress("email", "ada@example.com")
        place.clock.advance(60)
        done = await place.deliver.deliver(place.envelope(claim))
        assert (done.verdict.status, done.verdict.reason) == (Status.EXPIRED, Why.EXPIRED)
        assert (one.seen, done.provider) == ([], None)


async def test_a_recipients_rate_is_paid_once_for_all_attempts(tmp_path):
    one = Scripted(DOWN)
    async with house(tmp_path, one, channels={"email": {"per_recipient": "1/h"}}) as place:
        await place.send()
        claim = await place.claim()
        first = await place.deliver.deliver(place.envelope(claim))
        assert (first.verdict.reason, first.verdict.granted) == (Why.RETRY, True)
        await place.send()
        other = await place.claim()
        held = await place.deliver.deliver(place.envelope(other))
        assert (held.verdict.reason, held.verdict.until) == (Why.RATE_LIMITED, place.clock() + 3_600_000)
        assert (held.verdict.granted, held.provider) == (True, None)
        assert len(one.seen) == 1


async def test_a_rate_that_has_no_room_before_the_deadline_expires_the_delivery(tmp_path):
    rules = {"channels": {"email": {"per_recipient": "1/h"}}, "categories": {"default": {"expires_after_s": 60}}}
    async with house(tmp_path, Scripted(), **rules) as place:
        await delivered(place)
        assert (await delivered(place)).verdict.status is Status.EXPIRED


async def test_a_providers_rate_paces_by_pausing(tmp_path):
    one = Scripted()
    async with house(tmp_path, one, pace=Pace(1, 200)) as place:
        for number in range(3):
            await delivered(place, address=f"user{number}@example.com")
        assert place.pauses == [0.2, 0.4]
        assert len(one.seen) == 3


async def test_an_open_breaker_holds_without_an_attempt_and_lets_one_try_when_its_pause_is_over(tmp_path):
    one = Scripted(DOWN, Accepted())
    async with house(tmp_path, one, channels={"email": {"breaker": {"failures": 1, "first_s": 5}}}) as place:
        await delivered(place)
        done = await delivered(place, address="bob@example.com")
        assert (done.verdict.reason, done.attempts, done.provider) == (Why.PROVIDER_DOWN, (), None)
        assert len(one.seen) == 1
        place.clock.advance(6)
        await place.send("eve@example.com")
        lease = Lease(worker="w", until=place.clock() + 60_000)
        claims = await place.store.claim({"email:normal": 9}, lease, place.clock())
        for claim in claims:
            await place.deliver.deliver(place.envelope(claim))
        assert len(one.seen) >= 2


async def test_a_breaker_is_given_back_what_a_rule_kept_from_the_provider(tmp_path):
    one = Scripted(DOWN, Accepted())
    quick = {"expires_after_s": 1}
    breaker = {"email": {"breaker": {"failures": 1, "first_s": 5}}}
    async with house(tmp_path, one, pace=Pace(1, 60_000), channels=breaker, categories={"quick": quick}) as place:
        await delivered(place)
        place.clock.advance(6)
        done = await delivered(place, address="bob@example.com", category="quick")
        assert done.verdict.status is Status.EXPIRED, "the rate has no room in time"
        [handle] = place.providers.of("email")
        assert handle.breaker._in_flight == 0


async def test_outside_production_what_is_not_allowed_is_kept_and_asks_no_provider(tmp_path):
    one = Scripted()
    async with house(tmp_path, one, environment="staging", staging={"allow": ["*@example.net"]}) as place:
        [handle] = place.providers.of("email")
        for _ in range(5):
            handle.breaker.record(DOWN, place.clock())
        assert handle.breaker.until is not None
        done = await delivered(place)
        assert isinstance(done.verdict, Kept)
        assert (done.provider, done.attempts, one.seen) == (None, (), [])


async def test_a_lease_that_ran_out_before_the_wire_sends_nothing(tmp_path):
    one = Scripted()
    async with house(tmp_path, one) as place:
        await place.send()
        claim = await place.claim()
        envelope = place.deliver.envelope(claim, lease_until=place.clock)
        with pytest.raises(Abandoned):
            await place.deliver.deliver(envelope)
        assert one.seen == []


async def test_a_row_that_cannot_be_read_fails_at_once_and_says_so(tmp_path):
    one = Scripted()
    async with house(tmp_path, one) as place:
        await place.send()
        claim = msgspec.structs.replace(await place.claim(), recipient=b"{not json")
        done = await place.deliver.deliver(place.envelope(claim))
        assert (done.verdict.status, done.verdict.reason) == (Status.FAILED, Why.TEMPLATE_ERROR)
        assert one.seen == []


async def test_a_store_that_is_away_is_no_verdict(tmp_path):
    class Away(Between):
        async def consent(self, *_):
            raise StoreUnavailable("locked")

    one = Scripted()
    async with house(tmp_path, one, wrap=Away) as place:
        await place.send()
        with pytest.raises(StoreUnavailable):
            await place.deliver.deliver(place.envelope(await place.claim()))
        assert one.seen == []


async def test_urgent_and_bulk_mail_meet_at_the_door_by_priority(tmp_path):
    async with house(tmp_path, Scripted()) as place:
        await place.send(priority="critical")
        envelope = place.envelope(await place.claim(priority=Priority.CRITICAL))
        assert envelope.priority == "critical"
        assert envelope.claim.on_unknown is OnUnknown.RESEND


async def test_a_thousand_recipients_share_one_copy_of_a_file(tmp_path):
    class Counting(Between):
        loads = 0

        async def attachments(self, *asked):
            self.loads += 1
            return await self.store.attachments(*asked)

    one = Scripted()
    async with house(tmp_path, one, wrap=Counting) as place:
        content = base64.b64encode(b"\x00 file").decode()
        file = {"filename": "a.bin", "content_type": "application/octet-stream", "content": content}
        await place.send_many([f"user{number}@example.com" for number in range(5)], attachments=[file])
        lease = Lease(worker="w", until=place.clock() + 60_000)
        claims = await place.store.claim({"email:normal": 5}, lease, place.clock())
        await asyncio.gather(*[place.deliver.deliver(place.envelope(claim)) for claim in claims])
        contents = [message.content.attachments[0].content for message in one.seen]
        assert contents == [b"\x00 file"] * 5
        assert len({id(content) for content in contents}) == 1
        assert place.store.loads == 1


async def test_a_file_that_could_not_be_loaded_is_asked_for_again(tmp_path):
    class Away(Between):
        left = 1

        async def attachments(self, *asked):
            if self.left:
                self.left -= 1
                raise StoreUnavailable("locked")
            return await self.store.attachments(*asked)

    one = Scripted()
    async with house(tmp_path, one, wrap=Away) as place:
        file = {"filename": "a.bin", "content_type": "application/octet-stream", "content": "AAAA"}
        await place.send(attachments=[file])
        claim = await place.claim()
        with pytest.raises(StoreUnavailable):
            await place.deliver.deliver(place.envelope(claim))
        assert isinstance((await place.deliver.deliver(place.envelope(claim))).verdict, Accepted)
        assert one.seen[0].content.attachments[0].content == b"\x00\x00\x00"
