"""Log lines: one per event, whoever writes them and whatever is in them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.settings import LogFormat, LoggingSettings, LogLevel, Secret
from gateway.observe.logging import bind_request_id, clear_request_id, configure, get_logger


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    clear_request_id()


def lines_of(write: Any, *, form: LogFormat = LogFormat.JSON, level: LogLevel = LogLevel.INFO) -> list[str]:
    stream = io.StringIO()
    configure(LoggingSettings(format=form, level=level), stream)
    write()
    return stream.getvalue().splitlines()


def one(write: Any) -> dict[str, Any]:
    [line] = lines_of(write)
    return json.loads(line)


def test_a_line_is_one_json_object_with_time_level_and_fields() -> None:
    line = one(lambda: get_logger("gateway").info("delivery_sent", delivery_id="dlv_1", took_ms=12))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "delivery_sent",
        "level": "info",
        "logger": "gateway",
        "delivery_id": "dlv_1",
        "took_ms": 12,
    }


def test_the_standard_librarys_loggers_come_the_same_way() -> None:
    line = one(lambda: logging.getLogger("uvicorn.error").warning("lost %s", "eve@example.com\nx"))
    assert line["event"] == r"lost e***@example.com\nx"
    assert (line["level"], line["logger"]) == ("warning", "uvicorn.error")


async def test_the_request_id_is_on_every_line_of_its_task_and_on_no_other() -> None:
    stream = io.StringIO()
    configure(LoggingSettings(format=LogFormat.JSON), stream)

    async def request(name: str) -> None:
        bind_request_id(name)
        await asyncio.sleep(0)
        get_logger("gateway").info(name)
        logging.getLogger("library").warning(name)
        clear_request_id()
        get_logger("gateway").info(name + "-after")

    await asyncio.gather(request("a"), request("b"))
    for line in map(json.loads, stream.getvalue().splitlines()):
        assert line.get("request_id") == (None if line["event"].endswith("-after") else line["event"])


def test_addresses_secrets_and_bodies_never_reach_a_line() -> None:
    def write() -> None:
        get_logger("gateway").info(
            "refused by john@example.com",
            to="john@example.com",
            phone="+15550100001",
            detail="550 <john@example.com> says +1 555 010 0001",
            password="hunter2",
            api_key="hunter2",
            authorization="Bearer hunter2",
            secret=Secret("hunter2"),
            html="<p>hunter2",
            inner={"token": "hunter2", "list": ["john@example.com"], "body": "hunter2"},
            raw=b"hunter2",
            some=b"hunter2",
        )

    [line] = lines_of(write)
    assert "hunter2" not in line
    assert "john" not in line
    assert "0100001" not in line


def test_a_trace_is_whole_and_masked() -> None:
    def fails() -> None:
        raise ValueError("bad john@example.com")

    def write() -> None:
        try:
            fails()
        except ValueError:
            get_logger("gateway").exception("adapter_raised", provider="x")

    line = one(write)
    assert "ValueError: bad j***@example.com" in line["exception"]
    assert "test_logging.py" in line["exception"]


@given(st.text(), st.text(min_size=1), st.text())
def test_nobody_can_write_a_line_of_their_own(event: str, name: str, value: str) -> None:
    fields = {name if name not in {"event", "self"} else "x": value + "\n{}", "more": [value, {value: "\r\n"}]}
    lines = lines_of(lambda: get_logger("gateway").info(event + "\n{}", **fields))
    assert len(lines) == 1
    assert isinstance(json.loads(lines[0]), dict)


@given(st.text())
def test_nobody_can_write_a_line_on_the_terminal_either(text: str) -> None:
    lines = lines_of(
        lambda: get_logger("gateway").info("x" + text + "\n2026 [info] forged", a=text + "\x1b[2J\nforged"),
        form=LogFormat.CONSOLE,
    )
    assert len(lines) == 1
    assert "\x1b" not in lines[0]


def test_a_trace_on_the_terminal_is_set_in_so_that_its_words_begin_no_line() -> None:
    def write() -> None:
        get_logger("gateway").error("bad", exc_info=ValueError("x\n2026 [info] forged"))

    lines = lines_of(write, form=LogFormat.CONSOLE)
    assert any("forged" in line for line in lines)
    assert all(line.startswith("    ") for line in lines[1:])


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("value", [2**80, float("nan"), "\ud800", Unshowable(), object, {1: {2: 3}}, {4}, b"\xff"])
def test_no_value_can_make_logging_fail(value: Any) -> None:
    assert one(lambda: get_logger("gateway").info("odd", value=value))["event"] == "odd"


def test_long_and_deep_values_are_cut() -> None:
    deep: Any = "end"
    for _ in range(50):
        deep = [deep]
    [line] = lines_of(lambda: get_logger("gateway").info("big", page="x" * 1_000_000, deep=deep, many=["y"] * 10_000))
    assert len(line) < 20_000


def test_the_level_holds_for_everybody_and_libraries_are_quiet() -> None:
    def write() -> None:
        get_logger("gateway").info("ours")
        logging.getLogger("sqlalchemy.engine").info("theirs")
        logging.getLogger("sqlalchemy.engine").warning("serious")

    assert [json.loads(line)["event"] for line in lines_of(write)] == ["ours", "serious"]
    assert [json.loads(line)["event"] for line in lines_of(write, level=LogLevel.ERROR)] == []


def test_configuring_again_leaves_one_line_per_event() -> None:
    lines_of(lambda: None)
    assert len(lines_of(lambda: get_logger("gateway").info("once"))) == 1
