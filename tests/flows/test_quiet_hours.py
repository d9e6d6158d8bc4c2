"""Quiet hours at work: held and not dropped, by the person's clock, whenever it is that a message would go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from gateway.router.answers import utc
from tests.support.gateway import RunningGateway, running_gateway, smtp
from tests.support.smtp_server import Behaviour, SmtpServer

TO = {"user": "42"}
EMAIL: dict[str, Any] = {"environment": "development", "channels": {"sms": {}}}


def hours(gw: RunningGateway, begin_h: float, end_h: float, zone: str = "UTC") -> dict[str, str]:
    """Write quiet hours from so many hours from now to so many, on a zone's clock."""
    now = datetime.fromtimestamp(gw.clock() // 60_000 * 60, ZoneInfo(zone))
    start, end = (now + timedelta(hours=one) for one in (begin_h, end_h))
    return {"start": f"{start:%H:%M}", "end": f"{end:%H:%M}"}


def due_in_h(gw: RunningGateway, shown: Any) -> float:
    return (datetime.fromisoformat(shown).timestamp() * 1000 - gw.clock()) / 3_600_000


async def store(gw: RunningGateway, quiet_hours: Any, **profile: Any) -> None:
    await gw.client.put("/v1/users/42", json={"email": "ada@example.com", **profile})
    answer = await gw.client.put("/v1/users/42/preferences", json={"quiet_hours": quiet_hours})
    assert answer.status_code == 200, answer.text


async def test_what_comes_within_is_held_until_the_end_and_then_goes(tmp_path, database):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server), database=database) as gw:
        await store(gw, {**hours(gw, -1, 5, "Asia/Kathmandu")}, timezone="Asia/Kathmandu")
        answer = await gw.send(TO)
        [planned] = answer["deliveries"]
        assert (planned["status"], planned["reason"]) == ("held", "quiet_hours")
        assert "Asia/Kathmandu" in planned["detail"]
        assert 4.9 < due_in_h(gw, planned["due_at"]) <= 5
        asked = {"to": TO, "content": {"title": "x"}}
        [one] = (await gw.client.post("/v1/notifications/explain", json=asked)).json()["deliveries"]
        assert (one["decision"], one["reason"], one["until"]) == ("hold", "quiet_hours", planned["due_at"])
        assert [(r["result"], r["detail"]) for r in one["rules"] if r["rule"] == "quiet_hours"] == [
            ("hold", planned["detail"])
        ]
        assert server.messages == []
        gw.clock.advance(5 * 3600)
        assert (await gw.final(answer))["status"] == "sent"


async def test_whose_clock_counts(tmp_path):
    async with running_gateway(tmp_path, {**EMAIL, "quiet_hours": {"timezone": "Asia/Tokyo"}}) as gw:
        for own, stored, given, counts in (
            ("Asia/Kathmandu", "Europe/Vienna", "America/Lima", "Asia/Kathmandu"),
            (None, "Europe/Vienna", "America/Lima", "America/Lima"),
            (None, "Europe/Vienna", None, "Europe/Vienna"),
            (None, None, None, "Asia/Tokyo"),
        ):
            wanted = hours(gw, -1, 1, counts) | ({} if own is None else {"timezone": own})
            await store(gw, wanted, **({} if stored is None else {"timezone": stored}))
            answer = await gw.send(TO | ({} if given is None else {"timezone": given}))
            assert answer["deliveries"][0]["reason"] == "quiet_hours", (own, stored, given)
            assert answer["deliveries"][0]["detail"].endswith(counts)


async def test_the_default_is_for_who_chose_none_and_can_be_chosen_away(tmp_path):
    now = datetime.now(UTC)
    wanted = {key: f"{now + timedelta(hours=by):%H:%M}" for key, by in (("start", -1), ("end", 3))}
    async with running_gateway(tmp_path, {**EMAIL, "quiet_hours": {**wanted, "channels": ["email"]}}) as gw:
        assert (await gw.send("bob@example.com"))["deliveries"][0]["reason"] == "quiet_hours"
        assert (await gw.send({"phone": "+15550109999"}))["deliveries"][0]["status"] == "queued"
        await store(gw, {"enabled": False})
        assert (await gw.send(TO))["deliveries"][0]["status"] == "queued"
        await store(gw, None)
        assert (await gw.send(TO))["deliveries"][0]["reason"] == "quiet_hours"


async def test_what_is_urgent_passes(tmp_path):
    config = {
        **EMAIL,
        "categories": {"alarm": {"priority": "critical"}, "doorbell": {"quiet_hours": False}, "news": {}},
    }
    async with running_gateway(tmp_path, config) as gw:
        await store(gw, hours(gw, -1, 3))
        for more, status in (
            ({"category": "alarm"}, "captured"),
            ({"category": "doorbell"}, "captured"),
            ({"category": "news", "priority": "critical"}, "captured"),
        ):
            assert (await gw.final(await gw.send(TO, **more)))["status"] == status
        held = await gw.send(TO, category="alarm", priority="bulk")
        assert (await gw.held(held, "quiet_hours"))["attempts"] == []


async def test_a_schedule_and_quiet_hours_after_it(tmp_path):
    async with running_gateway(tmp_path, EMAIL) as gw:
        await store(gw, hours(gw, 2, 4))
        within = await gw.send(TO, send_at=utc(gw.clock() + 3 * 3_600_000))
        before = await gw.send(TO, send_at=utc(gw.clock() + 3_600_000))
        assert 3.9 < due_in_h(gw, within["deliveries"][0]["due_at"]) <= 4
        assert (within["status"], within["deliveries"][0]["reason"]) == ("scheduled", "quiet_hours")
        assert before["deliveries"][0]["reason"] == "scheduled"
        # Whoever moves their quiet hours meanwhile is left alone in the new ones.
        await store(gw, hours(gw, 0.5, 2))
        gw.clock.advance(3600)
        held = await gw.held(before, "quiet_hours")
        assert 0.9 < due_in_h(gw, held["due_at"]) <= 1
        gw.clock.advance(3600)
        assert (await gw.final(before))["status"] == "captured"


async def test_a_retry_does_not_ring_either(tmp_path):
    busy = Behaviour(on={"mail": ["450 4.2.1 busy", "250 2.1.0 OK"]})
    config = {"channels": {"email": {"retry": {"first_s": 900}}}}
    async with SmtpServer(busy) as server, running_gateway(tmp_path, smtp(server, **config)) as gw:
        await store(gw, hours(gw, 0.1, 5))
        answer = await gw.send(TO)
        await gw.held(answer, "retry")
        gw.clock.advance(1800)
        held = await gw.held(answer, "quiet_hours")
        assert [one["outcome"] for one in held["attempts"]] == ["retry"]
        gw.clock.advance(5 * 3600)
        assert (await gw.final(answer))["status"] == "sent"
        assert len(server.messages) == 1


async def test_quiet_hours_that_outlast_the_deadline_let_it_expire_and_say_so(tmp_path):
    config = {
        **EMAIL,
        "channels": {"email": {"retry": {"budget_s": 600}}},
        "categories": {"code": {"expires_after_s": 600}},
    }
    async with running_gateway(tmp_path, config) as gw:
        await store(gw, hours(gw, -1, 3))
        expired = await gw.send(TO, category="code")
        [one] = expired["deliveries"]
        assert (one["status"], one["reason"]) == ("expired", "expired")
        assert "quiet hours" in one["detail"]
        # Time for retries begins when they end: a short budget is no deadline for the night.
        answer = await gw.send(TO)
        assert answer["deliveries"][0]["reason"] == "quiet_hours"
        gw.clock.advance(3 * 3600)
        assert (await gw.final(answer))["status"] == "captured"
        # One that is found at the attempt expires in the same way.
        late = await gw.send(TO, category="code", send_at=utc(gw.clock() + 60_000))
        await store(gw, hours(gw, 0, 3))
        gw.clock.advance(61)
        delivery = await gw.final(late)
        assert (delivery["status"], delivery["reason"]) == ("expired", "expired")
        assert "quiet hours" in delivery["detail"]


async def test_an_escalation_counts_from_the_end_of_the_night(tmp_path):
    async with running_gateway(tmp_path, EMAIL) as gw:
        await store(gw, hours(gw, -1, 3), phone="+15550109999")
        answer = await gw.send(TO, channels=["email", "sms"], strategy="escalate", escalate_after_s=3600)
        email, sms = answer["deliveries"]
        assert [(one["status"], one["reason"]) for one in (email, sms)] == [
            ("held", "quiet_hours"),
            ("held", "fallback"),
        ]
        between = datetime.fromisoformat(sms["due_at"]) - datetime.fromisoformat(email["due_at"])
        assert between == timedelta(hours=1)


async def test_a_night_on_the_day_the_clocks_change(tmp_path):
    async with running_gateway(tmp_path, EMAIL) as gw:
        await store(gw, {"start": "22:00", "end": "07:00", "timezone": "Europe/Vienna"})
        for day, utc_hour in (("2027-03-28", 5), ("2027-10-31", 6)):
            at = datetime.fromisoformat(f"{day}T00:30:00").replace(tzinfo=UTC)
            [one] = (await gw.send(TO, send_at=at.isoformat()))["deliveries"]
            assert one["due_at"].startswith(f"{day}T{utc_hour:02}:00:00"), one["due_at"]
