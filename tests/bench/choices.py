"""The row of preferences: what a send to a person who chose costs more than one to a bare address."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.bench.bench import Bench, check
from tests.bench.processes import BenchFailed, Gateway, Sink
from tests.bench.table import Row, Target
from tests.bench.topics import Client, asking

_PEOPLE = 1000
_TURNS = 5
_DRAIN_S = 180

CHOICES = {
    "channels": {"sms": False},
    "categories": {"default": {"channels": {"email": True, "sms": False}}},
    "quiet_hours": {"start": "03:00", "end": "03:01", "timezone": "Europe/Berlin"},
}
"""What everybody chose: a row for a channel, two for a category, and quiet hours that are hardly ever."""


class _Cost(msgspec.Struct):
    """What mails of one kind cost in all."""

    mails: int = 0
    cpu_s: float = 0
    took_s: float = 0


def choosing(bench: Bench) -> list[Row]:
    """Processor time of a mail, accepted and delivered, to people with preferences and quiet hours."""
    count = bench.sizes.mails // _TURNS
    bare, known = _Cost(), _Cost()
    with bench.pair("choices") as (folder, sink, gateway):
        with asking(gateway) as client:
            bench.say(f"preferences: {_PEOPLE:,} people choose")
            _store(client)
        bench.warm_up(folder, gateway, sink)
        for turn in range(_TURNS + 1):
            bench.say(f"preferences: turn {turn} of {_TURNS}")
            kinds = (("email", bare), ("user", known))
            for to, cost in kinds if turn % 2 else reversed(kinds):
                one = _sent(bench, folder, sink, gateway, to, count)
                if turn > 0:  # the first is to warm up
                    cost.mails += one.mails
                    cost.cpu_s += one.cpu_s
                    cost.took_s += one.took_s
    each, baseline = (cost.cpu_s / cost.mails * 1e6 for cost in (known, bare))
    return [
        Row(
            name="preferences, a mail to a person",
            measured=each,
            baseline=baseline,
            unit="µs",
            ratio=each / baseline,
            target=Target(of="ratio", most=1.1),
            notes=(
                (
                    f"processor time of the gateway, accepting and delivering {known.mails:,} mails, in {_TURNS} turns;"
                    " baseline: as many to the same addresses, given on the spot"
                ),
                (
                    f"{known.mails / known.took_s:,.0f} mails/s against {bare.mails / bare.took_s:,.0f};"
                    f" {_PEOPLE:,} people, each with three choices and quiet hours"
                ),
            ),
        )
    ]


def _store(client: Client) -> None:
    names = [f"person{number:08}" for number in range(_PEOPLE)]
    client.ask("POST", "/v1/users/batch", {"users": [{"id": one, "email": f"{one}@example.com"} for one in names]})
    for one in names:
        client.ask("PUT", f"/v1/users/{one}/preferences", CHOICES)


def _sent(bench: Bench, folder: Path, sink: Sink, gateway: Gateway, to: str, count: int) -> _Cost:
    """Send so many and wait until all have arrived."""
    sink.reset()
    cpu = gateway.child.cpu_s()
    asked = ("--count", str(count), "--people", str(_PEOPLE), "--to", to)
    report = bench.loaded(folder, gateway.port, *asked, notifications=count)
    check(report)
    if (arrived := sink.wait_for(count, _DRAIN_S)) != count:
        raise BenchFailed(f"{arrived} of {count} mails arrived")
    return _Cost(mails=count, cpu_s=gateway.child.cpu_s() - cpu, took_s=sink.last_at() - report.began_at)
