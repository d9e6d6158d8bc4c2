from __future__ import annotations

import msgspec
import pytest

from gateway.registry import Registry
from tests.bench import api_overhead
from tests.bench.adapters import _recorded
from tests.bench.load import single
from tests.bench.senders import Case, cases
from tests.bench.table import Row, Target, all_met, render

FAST = Row(
    name="(a) accept",
    measured=5210.4,
    baseline=12_000.0,
    unit="/s",
    ratio=5210.4 / 12_000,
    target=Target(of="ratio", least=0.4),
    notes=("on a quiet machine",),
)
SLOW = Row(name="(d) latency", measured=9.5, unit="ms", target=Target(of="measured", most=8, unit="ms"))
PLAIN = Row(name="render", measured=41.26, unit="µs")
BROKEN = Row(name="(f) memory", target=Target(of="measured", most=150, unit="MiB"), notes=("it did not start",))


def test_table_is_aligned_and_says_what_was_met():
    lines = render([FAST, SLOW, PLAIN, BROKEN], [("commit", "abc"), ("machine", "2 cores")]).splitlines()

    assert lines[:3] == ["commit   abc", "machine  2 cores", ""]
    assert lines[3:9] == [
        "row          measured  baseline  ratio  target       met",
        "-----------  --------  --------  -----  -----------  ---",
        "(a) accept    5,210/s  12,000/s   0.43  ratio ≥ 0.4  yes",
        "(d) latency   9.50 ms                   ≤ 8 ms       no",
        "render        41.3 µs",
        "(f) memory     failed                   ≤ 150 MiB    no",
    ]
    assert lines[9:] == ["", "(a) accept:", "  on a quiet machine", "", "(f) memory:", "  it did not start"]


def test_a_missed_or_unmeasured_target_is_not_all_met():
    assert all_met([FAST, PLAIN])
    assert not all_met([FAST, SLOW])
    assert not all_met([FAST, BROKEN])


def test_bounds_belong_to_what_is_met():
    target = Target(of="ratio", least=0.25)

    assert target.holds(0.25)
    assert not target.holds(0.2499)
    assert Row(name="b", measured=1.0, ratio=0.25, target=target).met
    assert Row(name="b", measured=1.0, ratio=0.2, target=target).met is False


def test_the_api_s_own_work_is_measured_by_the_api_there_is():
    found = api_overhead.run(count=20)
    assert found["api_us"] > found["bare_us"] / 10


def test_every_rest_adapter_is_benched():
    assert {case.use for case in cases()} == set(Registry.load().names()) - {"bridge_apprise", "dev_log", "email_smtp"}


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.use)
async def test_what_the_bare_loop_posts_is_what_the_adapter_posted(case: Case):
    recorded = await _recorded(case)
    assert recorded.path == next(iter(case.replies))
    assert recorded.method == "POST"
    assert recorded.body


def test_a_load_to_people_goes_round_them_and_says_something_new_each_time():
    requests = single("/v1/notifications", 3, same=False, people=4, to="user")
    made = [next(requests).partition(b"\r\n\r\n") for _ in range(3)]
    bodies = [msgspec.json.decode(body) for _, _, body in made]

    assert [body["to"] for body in bodies] == [{"user": f"person{number:08}"} for number in (3, 0, 1)]
    assert len({body["content"]["title"] for body in bodies}) == 3
    assert all(head.endswith(f"Content-Length: {len(body)}".encode()) for head, _, body in made)
