"""Rows of the parts: what composing, rendering, the store and the API's own handling cost without the rest."""

from __future__ import annotations

import asyncio
import sys

from tests.bench import api_overhead, compose, render, storage
from tests.bench.bench import Bench
from tests.bench.table import Row, Target


def composing(bench: Bench) -> list[Row]:
    """How much faster our composer is than the standard library's."""
    bench.say("composing")
    found = compose.run(rounds=50 if bench.sizes.quick else 200)
    return [
        Row(
            name=f"compose a mail, {kind}",
            measured=found[f"{kind}_ours_us"],
            baseline=found[f"{kind}_standard_us"],
            unit="µs",
            ratio=found[f"{kind}_ratio"],
            target=Target(of="ratio", least=10),
        )
        for kind in ("ascii", "unicode")
    ]


def rendering(bench: Bench) -> list[Row]:
    """What rendering a message costs."""
    bench.say("rendering")
    found = render.run(messages=50 if bench.sizes.quick else 200)
    return [Row(name=f"render: {name}", measured=value, unit="µs") for name, value in found.items()]


def handling(bench: Bench) -> list[Row]:
    """What the API's own handling costs, against the bare endpoint's; no socket, no store."""
    bench.say("the API alone")
    found = api_overhead.run(count=4000 if bench.sizes.quick else 20_000)
    return [
        Row(
            name="API alone, a request",
            measured=found["api_us"],
            baseline=found["bare_us"],
            unit="µs",
            ratio=found["ratio"],
        ),
    ]


def storing(bench: Bench) -> list[Row]:
    """What the store's verbs cost, called directly; how claims scale is row (e)'s business."""
    bench.say("the store alone")
    count = 4000 if bench.sizes.quick else 20_000
    switch_s = sys.getswitchinterval()
    with bench.folder("store") as folder:
        try:
            found = asyncio.run(storage.run(f"sqlite:///{folder}/gateway.db", count=count, waiting=10_000))
        finally:
            sys.setswitchinterval(switch_s)
    return [
        Row(name=f"store: {name.removesuffix('_per_s').replace('_', ' ')}", measured=value, unit="/s")
        for name, value in found.items()
        if name.endswith("_per_s")
    ]
