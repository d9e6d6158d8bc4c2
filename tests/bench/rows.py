"""Rows (a) to (d): what goes through a running gateway, against a baseline of the same minute."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from tests.bench.arrivals import Latencies, measure
from tests.bench.bench import FAR, Bench, check, report_of, wait_until_closed
from tests.bench.load import Report, batches, single
from tests.bench.processes import KEY, BenchFailed, Gateway
from tests.bench.table import Row, Target

_DRAIN_S: Final = 180
_BATCH: Final = 1000
_BATCH_CONNECTIONS: Final = 4


def accepting(bench: Bench) -> list[Row]:
    """(a) Single requests a second while what they ask for is being delivered: by one process, and by one per core."""
    bench.say("(a) the bare endpoint, before")
    before = bench.bare()
    rows: list[Row] = []
    for processes in (1, 2):
        row, before = _accepting(bench, processes, before)
        rows.append(row)
    return rows


def _accepting(bench: Bench, processes: int, before: Sequence[Report]) -> tuple[Row, Sequence[Report]]:
    """Measure between two looks at the bare endpoint; the second is handed on."""
    with bench.pair("accept", arguments=("--processes", str(processes))) as (folder, sink, gateway):
        bench.say(f"(a) accepting while delivering, {processes} process{'es' if processes > 1 else ''}")
        bench.warm_up(folder, gateway, sink)
        cpu = gateway.child.cpu_s()
        with bench.load(folder, gateway.port, "--seconds", str(bench.sizes.load_s)) as load:
            wait_until_closed(load)
            delivered = sink.count()
            closed_at = time.time()
            cpu = gateway.child.cpu_s() - cpu
            report = report_of(load)
        check(report)
        arrived = sink.wait_for(report.accepted, _DRAIN_S)
        drained_s = max(0.0, sink.last_at() - closed_at)
    bench.say("(a) the bare endpoint, after")
    after = bench.bare()
    bare, read, typed = ((one.per_s + other.per_s) / 2 for one, other in zip(before, after, strict=True))
    fastest = max((*before, *after), key=lambda one: one.per_s)
    row = Row(
        name="(a) accept while delivering" + (f", {processes} processes" if processes > 1 else ""),
        measured=report.per_s,
        baseline=bare,
        unit="/s",
        ratio=report.per_s / bare,
        target=Target(of="ratio", least=0.4),
        notes=(
            f"answers: p50 {report.p50_ms:.1f} ms, p99 {report.p99_ms:.1f} ms over 64 connections, fsync on",
            (
                f"delivered within the {report.seconds:.0f} s: {delivered:,} of {report.accepted:,}"
                f" ({delivered / max(1, report.accepted):.0%}); the rest took {drained_s:.1f} s more;"
                f" missing {report.accepted - arrived:,}"
            ),
            (
                f"gateway: {cpu / report.seconds:.2f} cores, {cpu / max(1, report.in_window) * 1e6:,.0f} µs"
                " of processor time per accepted request, delivering included"
            ),
            (
                f"bare endpoint, one process: {before[0].per_s:,.0f}/s before, {after[0].per_s:,.0f}/s after;"
                f" one that decodes the JSON body: {read:,.0f}/s (ratio {report.per_s / read:.2f});"
                f" one that takes it as our type: {typed:,.0f}/s (ratio {report.per_s / typed:.2f})"
            ),
            (
                f"the load itself used {fastest.cpu_s / fastest.seconds:.0%} of a core at {fastest.per_s:,.0f}/s:"
                " it is not what limits"
            ),
        ),
    )
    return row, after


def delivering(bench: Bench) -> list[Row]:
    """(b) E-mails accepted and delivered a second; in a full run also with sixteen connections."""
    widths = [bench.connections] if bench.sizes.quick else [bench.connections, 2 * bench.connections]
    return [_delivering(bench, connections) for connections in widths]


def _delivering(bench: Bench, connections: int) -> Row:
    with bench.pair("deliver", connections=connections) as (folder, sink, gateway):
        bench.say(f"(b) accepted and delivered, {connections} connections")
        size = _size_of_a_mail(gateway)
        before = bench.wire(folder, sink, connections=connections, size=size)
        bench.warm_up(folder, gateway, sink)
        cpu = gateway.child.cpu_s()
        count = bench.sizes.mails
        report = bench.loaded(folder, gateway.port, "--count", str(count), notifications=count)
        check(report)
        arrived = sink.wait_for(count, _DRAIN_S)
        cpu = gateway.child.cpu_s() - cpu
        if arrived != count:
            raise BenchFailed(f"{arrived} of {count} mails arrived")
        rate = count / (sink.last_at() - report.began_at)
        after = bench.wire(folder, sink, connections=connections, size=size)
    wire = (before + after) / 2
    return Row(
        name=f"(b) accept and deliver, {connections} connections",
        measured=rate,
        baseline=wire,
        unit="mails/s",
        ratio=rate / wire,
        target=Target(of="ratio", least=0.25),
        notes=(
            (
                f"{count:,} mails of {size:,} octets, all arrived; accepting them took {report.seconds:.1f} s of"
                f" {count / rate:.1f} s"
            ),
            f"gateway: {cpu / count * 1e6:,.0f} µs of processor time per mail, accepting included",
            f"bare loop of aiosmtplib: {before:,.0f}/s before, {after:,.0f}/s after",
        ),
    )


def batching(bench: Bench) -> list[Row]:
    """(c) Notifications a second in batches of 1,000, scheduled and at once."""
    scheduled = _batching(bench, "scheduled", "--send-at", FAR)
    immediate = _batching(bench, "immediate")
    return [scheduled, immediate]


def _batching(bench: Bench, kind: str, *arguments: str) -> Row:
    with bench.pair("batch") as (folder, sink, gateway):
        bench.say(f"(c) batches, {kind}")
        bench.warm_up(folder, gateway, sink)
        cpu = gateway.child.cpu_s()
        asked = ("--count", str(bench.sizes.batches), "--batch", str(_BATCH), *arguments)
        connections = ("--connections", str(_BATCH_CONNECTIONS))
        total = bench.sizes.batches * _BATCH
        report = bench.loaded(folder, gateway.port, *asked, *connections, notifications=total)
        cpu = gateway.child.cpu_s() - cpu
        check(report)
        delivered = sink.count()
    rate = total / report.seconds
    return Row(
        name=f"(c) batch accept, {kind}",
        measured=rate,
        unit="/s",
        target=Target(of="measured", least=10_000, unit="/s"),
        notes=(
            (
                f"{bench.sizes.batches} requests of {_BATCH:,} over {_BATCH_CONNECTIONS} connections:"
                f" p50 {report.p50_ms:.0f} ms, p99 {report.p99_ms:.0f} ms a request"
            ),
            f"gateway: {cpu / total * 1e6:,.0f} µs of processor time per notification",
            *((f"delivered meanwhile: {delivered:,}",) if not arguments else ()),
        ),
    )


def latency(bench: Bench) -> list[Row]:
    """(d) From a request's first octet to its mail's last, one at a time on an idle gateway."""
    with bench.folder("latency") as folder:
        found = uvloop.run(_latency(bench, folder))
    return [
        Row(
            name="(d) idle latency, p50",
            measured=found.quantile(0.5),
            unit="ms",
            target=Target(of="measured", most=8, unit="ms"),
            notes=(
                (
                    f"{len(found.arrived_ms)} mails, one at a time, {bench.sizes.latency_pause_s * 1000:.0f} ms apart;"
                    f" fastest {min(found.arrived_ms):.1f} ms, slowest {max(found.arrived_ms):.1f} ms"
                ),
                (
                    f"the 202 itself: p50 {found.quantile(0.5, of='answered'):.1f} ms,"
                    f" p99 {found.quantile(0.99, of='answered'):.1f} ms"
                ),
            ),
        ),
        Row(name="(d) idle latency, p99", measured=found.quantile(0.99), unit="ms"),
        Row(
            name="start to ready, new database",
            measured=found.started_s,
            unit="s",
            target=Target(of="measured", most=1.5, unit="s"),
        ),
    ]


async def _latency(bench: Bench, folder: Path) -> Latencies:
    bench.say("(d) idle latency")
    return await measure(
        gateway=lambda port: bench.gateway(folder, port),
        requests=single("/v1/notifications", 0, same=False),
        count=bench.sizes.latency_mails,
        pause_s=bench.sizes.latency_pause_s,
    )


def _size_of_a_mail(gateway: Gateway) -> int:
    """Ask the gateway itself how large the mails of this bench are."""
    [body] = batches("", 0, 1, 1, None, same=False)
    item = msgspec.json.decode(body.partition(b"\r\n\r\n")[2])["notifications"][0]
    request = urllib.request.Request(
        f"http://127.0.0.1:{gateway.port}/v1/notifications/explain",
        data=msgspec.json.encode(item),
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return msgspec.json.decode(answer.read())["deliveries"][0]["size_bytes"]
