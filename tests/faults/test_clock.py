"""The clock jumps, forward and back, under load. Only on SQLite the clock of this machine is the gateway's."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.frame import IN_HAND, Faults
from tests.faults.oracle import all_settled
from tests.support.clock import MovableClock
from tests.support.gateway import running_gateway
from tests.support.smtp_server import SmtpServer


# All together less than a day, which is how long a mail is tried: what waits through a longer jump has expired.
@pytest.mark.parametrize("jumps", [(3600, -4), (-4, 600, -4, 80_000)])
async def test_the_clock_jumps_under_load(jumps, faults: Faults):
    clock = MovableClock()
    async with SmtpServer() as server:
        config = faults.settings(server, await faults.database("sqlite"))
        async with running_gateway(faults.folder, config, clock=clock) as gw:
            for jump in jumps:
                async with faults.load(gw.client) as ledger:
                    await ledger.until_accepted(len(ledger.accepted) + faults.random.randrange(30, 90))
                    clock.advance(jump)
                    await ledger.until_accepted(len(ledger.accepted) + 60)
                await asyncio.sleep(faults.random.uniform(0, 0.5))
            await all_settled(gw.client)
            words = ", ".join(f"{jump:+} s" for jump in jumps)
            # Leases that a jump ran over are taken over, though their worker lives.
            bound = len(jumps) * IN_HAND
            fault = f"the clock jumps {words}"
            await faults.judge(fault, "sqlite", gw.client, server, bound=bound, may_miss={"unknown": bound})
