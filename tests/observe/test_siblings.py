from __future__ import annotations

import asyncio
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateway.observe.metrics import Metrics
from gateway.observe.siblings import Siblings, merged


def accepted(text: bytes) -> dict[str, float]:
    return {
        sample.labels["process"]: sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "gateway_notifications_accepted_total"
    }


def figures(count: int) -> bytes:
    metrics = Metrics()
    metrics.accepted("live", count)
    metrics.attempt("smtp-main", "accepted", 0.02)
    return metrics.render()[0]


def test_samples_of_all_processes_stand_in_one_group_and_keep_their_values() -> None:
    text = merged({0: figures(3), 1: figures(4)})
    assert accepted(text) == {"0": 3, "1": 4}
    heads = [line.split(" ")[2] for line in text.decode().splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))
    buckets = [
        sample.labels
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "gateway_attempt_seconds_count"
    ]
    assert buckets == [
        {"process": "0", "provider": "smtp-main", "outcome": "accepted"},
        {"process": "1", "provider": "smtp-main", "outcome": "accepted"},
    ]


async def test_any_process_shows_the_figures_of_all(tmp_path: Path) -> None:
    first, second = (Siblings(tmp_path, number=number, count=2) for number in (0, 1))
    async with first.tell(lambda: figures(1)), second.tell(lambda: figures(2)):
        assert accepted(await first.with_theirs(figures(1))) == {"0": 1, "1": 2}
        assert accepted(await second.with_theirs(figures(2))) == {"0": 1, "1": 2}


async def test_a_sibling_that_is_gone_is_left_out_and_its_successor_takes_its_place(tmp_path: Path) -> None:
    first, second = (Siblings(tmp_path, number=number, count=2) for number in (0, 1))
    assert accepted(await first.with_theirs(figures(1))) == {"0": 1}
    (tmp_path / "figures-1").write_bytes(b"")  # a socket that nobody listens on any more
    assert accepted(await first.with_theirs(figures(1))) == {"0": 1}
    async with second.tell(lambda: figures(5)):
        assert accepted(await first.with_theirs(figures(1))) == {"0": 1, "1": 5}


async def test_a_scraper_that_hangs_up_disturbs_nobody(tmp_path: Path) -> None:
    first, second = (Siblings(tmp_path, number=number, count=2) for number in (0, 1))
    async with second.tell(lambda: figures(2)):
        _, writer = await asyncio.open_unix_connection(tmp_path / "figures-1")
        writer.transport.abort()
        assert accepted(await first.with_theirs(figures(1))) == {"0": 1, "1": 2}
