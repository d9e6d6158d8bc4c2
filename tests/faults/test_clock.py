"""The clock of the machine jumps, forward and back, under load. Only on SQLite it is the gateway's clock."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.frame import IN_HAND, LONG_ONLY, Faults
from tests.faults.oracle import all_settled
from tests.faults.tools import faketime
from tests.support.process import serving
from tests.support.smtp_server import SmtpServer


@LONG_ONLY
@pytest.mark.parametrize("jumps", [(3600,), (-12,), (600, -8, 7200, -8)])
async def test_the_clock_jumps_under_load(jumps, faults: Faults):
    library = faketime()
    file = faults.folder / "faketime"
    file.write_text("+0")
    variables = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    async with SmtpServer() as server:
        config = faults.config(server, await faults.database("sqlite"))
        async with serving(config, variables) as (_, client):
            offset = 0
            for jump in jumps:
                async with faults.load(client) as ledger:
                    await ledger.until_accepted(len(ledger.accepted) + 60)
                    offset += jump
                    file.write_text(f"{offset:+}")
                    await ledger.until_accepted(len(ledger.accepted) + 60)
                await asyncio.sleep(1.2)  # until the library has looked again
            await all_settled(client, within_s=60)
            words = ", ".join(f"{jump:+} s" for jump in jumps)
            # Leases that a jump ran over are taken over, though their worker lives.
            bound = len(jumps) * IN_HAND
            fault = f"the clock jumps {words}"
            await faults.judge(fault, "sqlite", client, server, bound=bound, may_miss={"unknown": bound})
