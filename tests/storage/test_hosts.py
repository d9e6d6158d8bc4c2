"""A database URL that names several hosts."""

from __future__ import annotations

import asyncpg
import pytest

from gateway.storage.postgres import Dialer, dialable

ONE, TWO = ("one", 5432), ("two", 5433)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u:p@one:5432,two:5433/db", [ONE, TWO]),
        ("postgresql://u:p@one,two:5433/db", [ONE, TWO]),
        ("postgresql://one,two:5433/db", [ONE, TWO]),
        ("postgresql://u:p@[::1]:1,[::2]/db", [("::1", 1), ("::2", 5432)]),
        ("postgresql://u:p@one:5432/db", []),
        ("postgresql://u@/db?host=/tmp", []),
    ],
)
def test_hosts_are_read_in_order(url, hosts):
    assert dialable(url)[1] == hosts


def test_of_several_hosts_the_one_that_takes_writes_is_wanted_unless_somebody_says_otherwise():
    url, _ = dialable("postgresql://u:p%2C@one,two/db?sslmode=require")
    assert dict(url.query) == {"ssl": "require", "target_session_attrs": "read-write"}
    assert (url.username, url.password, url.database) == ("u", "p,", "db")
    url, _ = dialable("postgresql://one,two/db?target_session_attrs=any")
    assert url.query["target_session_attrs"] == "any"
    assert "target_session_attrs" not in dialable("postgresql://one/db")[0].query


class Hosts:
    """Stands for the driver: hosts that fail as they are told."""

    def __init__(self, **faults: Exception) -> None:
        self.faults = faults
        self.asked: list[str] = []

    async def connect(self, *, host, port, timeout, **rest):  # noqa: ASYNC109 - the driver's own word
        self.asked.append(f"{host}:{port} within {timeout} s as {rest['user']}")
        if host in self.faults:
            raise self.faults[host]
        return f"connected to {host}"


async def test_a_host_that_is_silent_down_or_a_standby_is_followed_by_the_next():
    for fault in (
        TimeoutError(),
        ConnectionRefusedError(),
        asyncpg.CannotConnectNowError("starting up"),
        asyncpg.TargetServerAttributeNotMatched("a standby"),
    ):
        hosts = Hosts(one=fault)
        dialer = Dialer([ONE, TWO], hosts.connect, each_s=3)
        assert await dialer.dial(user="u", timeout=99, host="one", port=1) == "connected to two"
        assert hosts.asked == ["one:5432 within 3 s as u", "two:5433 within 3 s as u"]


async def test_the_host_that_answered_last_is_asked_first():
    hosts = Hosts(one=TimeoutError())
    dialer = Dialer([ONE, TWO], hosts.connect, each_s=3)
    await dialer.dial(user="u")
    await dialer.dial(user="u")
    assert [one[:3] for one in hosts.asked] == ["one", "two", "two"]
    hosts.faults = {"two": ConnectionRefusedError()}
    assert await dialer.dial(user="u") == "connected to one"


async def test_with_no_host_left_the_last_failure_is_told():
    dialer = Dialer([ONE, TWO], Hosts(one=TimeoutError(), two=ConnectionRefusedError("no")).connect, each_s=3)
    with pytest.raises(ConnectionRefusedError):
        await dialer.dial(user="u")
