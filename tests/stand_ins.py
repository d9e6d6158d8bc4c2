"""Try every channel and every adapter without an account.

Runs a stand-in for each provider on 127.0.0.1, and a gateway configured by deploy/providers.example.toml that sends to
them; prints a line to paste for each channel and each adapter, and whatever arrives. Ctrl-C ends it.

A channel is served by the first of its providers that is not paused, so the line of an adapter that shares its channel
pauses the others before it sends. All data is invented, and every secret is made anew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shlex
import signal
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.gateway import write_config
from tests.support.process import GatewayProcess
from tests.support.stand_ins import Arrival, NoStandIn, Plan, StandIns, Try, standing_in

ROOT: Final = Path(__file__).parent.parent
EXAMPLE: Final = ROOT / "deploy" / "providers.example.toml"
CONTENT: Final = {"title": "Order 42 shipped", "body": "It is **on its way**.", "url": "https://shop.example.com/42"}
_WAITING: Final = frozenset({"queued", "held", "sending"})
_ARRIVED: Final = frozenset({"sent", "delivered"})
_PATIENCE_S: Final = 10.0  # for one delivery: a stand-in answers at once, and a retry would show that it did not
_POLL_S: Final = 0.02


def main() -> int:
    """Run until interrupted or, with `--send`, until everything was tried; answers the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.stand_ins", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--send",
        action="store_true",
        help="send one message by each adapter, print a table and end: 1 if one is missing",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "var" / "stand-ins",
        help="for configuration, database and log (default: var/stand-ins)",
    )
    given = parser.parse_args()
    # A shell's background process inherits that Ctrl-C is ignored; whoever sends it means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"  # here and in the gateway, whatever is set around us
    try:
        return asyncio.run(_run(given.folder.resolve(), send=given.send))
    except NoStandIn as fault:
        print(fault, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0


async def _run(folder: Path, *, send: bool) -> int:
    task = asyncio.current_task()
    assert task is not None
    for one in (signal.SIGTERM, signal.SIGHUP):  # as asyncio itself does for Ctrl-C
        asyncio.get_running_loop().add_signal_handler(one, task.cancel)
    async with standing_in(_show) as stand_ins:
        plan = stand_ins.plan(tomllib.loads(EXAMPLE.read_text()))
        for name, reason in plan.left_out.items():
            _say(f"Left out: {name}, as {reason}.")
        key = secrets.token_urlsafe(32)
        process = _start(folder, plan, key)
        try:
            url = await process.ready()
            _say(f"The gateway listens on {url}; its log is {process.log}.")
            if not send:
                _say(_lines(plan, url, key))
                await asyncio.Event().wait()
            async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client:
                sending = _Sending(client, plan, stand_ins, process.log)
                results = [await sending.send(one) for one in plan.tries]
        finally:
            await process.stop()
    _say(_table(results))
    return 0 if all(result.arrived for result in results) else 1


def _start(folder: Path, plan: Plan, key: str) -> GatewayProcess:
    """Start a gateway with an empty database. What earlier runs left in the folder is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("stand-ins.*"):
        left.unlink()
    config = {**plan.config, "database": f"sqlite:///{folder}/stand-ins.db"}
    file = write_config(folder / "stand-ins.toml", config)
    words = ("serve", "--host", "127.0.0.1", "--port", "0")
    return GatewayProcess(file, *words, variables={**plan.variables, "GATEWAY_BOOTSTRAP_KEY": key}, apart=True)


def _show(arrival: Arrival) -> None:
    _say(f"arrived: {arrival.line}  {arrival.body}")


def _say(text: str) -> None:
    print(text, flush=True)


# What to paste.


def _lines(plan: Plan, url: str, key: str) -> str:
    """Write the lines to paste: one for each channel, and one for each adapter that shares its channel."""
    authorization = shlex.quote(f"Authorization: Bearer {key}")
    lines = ["Paste this first, and then any of the others:", "", f"export GATEWAY={url} AUTHORIZATION={authorization}"]
    for one in plan.tries:
        names = plan.channels[one.channel]
        if one.provider == names[0]:
            lines += ["", f"# {one.channel}: {one.adapter}", f"curl {_sending(one)}"]
        if len(names) > 1:
            others = ",".join(name for name in names if name != one.provider)
            steps = [_post(f"providers/{{{others}}}/pause"), _post(f"providers/{one.provider}/resume"), _sending(one)]
            lines += ["", f"# {one.channel} by {one.adapter} alone", f"curl {' --next '.join(steps)}"]
    return "\n".join([*lines, "", "What arrives is shown below. Ctrl-C ends it.", ""])


def _post(path: str) -> str:
    return f'-sS -o /dev/null -X POST "$GATEWAY/v1/{path}" -H "$AUTHORIZATION"'


def _sending(one: Try) -> str:
    body = shlex.quote(json.dumps(_request(one)))
    return f'-sS "$GATEWAY/v1/notifications" -H "$AUTHORIZATION" -H "Content-Type: application/json" -d {body}'


def _request(one: Try) -> dict[str, Any]:
    return {"to": one.to, "content": CONTENT}


# What is sent.


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one message. `line` is the request that reached the stand-in; without it none did."""

    tried: Try
    status: str
    line: str

    @property
    def arrived(self) -> bool:
        """Whether it reached the stand-in, and the gateway says so."""
        return self.status in _ARRIVED and self.line != ""


class _Sending:
    """Sends through one provider after another, and looks for what arrived."""

    def __init__(self, client: httpx.AsyncClient, plan: Plan, stand_ins: StandIns, log: Path) -> None:
        self._client = client
        self._plan = plan
        self._stand_ins = stand_ins
        self._log = log

    async def send(self, one: Try) -> Result:
        """Send through this provider, the others of its channel being paused, and wait for the end."""
        for name in self._plan.channels[one.channel]:
            await self._call("POST", f"/v1/providers/{name}/{'resume' if name == one.provider else 'pause'}")
        before = len(self._stand_ins.arrivals)
        answer = await self._call("POST", "/v1/notifications", json=_request(one))
        [delivery] = answer["deliveries"]
        ends = time.monotonic() + _PATIENCE_S
        while delivery["status"] in _WAITING and time.monotonic() < ends:
            await asyncio.sleep(_POLL_S)
            delivery = await self._call("GET", f"/v1/deliveries/{delivery['id']}")
        arrivals = [arrival.line for arrival in self._stand_ins.arrivals[before:]]
        line = self._logged(delivery["id"]) if one.adapter == "dev_log" else (arrivals or [""])[-1]
        status = delivery["status"]
        return Result(tried=one, status=status if status in _ARRIVED else f"{status}/{delivery['reason']}", line=line)

    async def _call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        answer = await self._client.request(method, path, **how)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _logged(self, delivery: str) -> str:
        """Find the line of the gateway's log that stands in for a message, where its adapter is `dev_log`."""
        logged = [line for line in self._log.read_text().splitlines() if "message_logged" in line and delivery in line]
        return "message_logged in the gateway's log" if logged else ""


def _table(results: list[Result]) -> str:
    rows = [("adapter", "provider", "channel", "status", "what reached the stand-in")]
    for result in results:
        one = result.tried
        rows.append((one.adapter, one.provider, one.channel, result.status, result.line or "nothing"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)])


if __name__ == "__main__":
    raise SystemExit(main())
