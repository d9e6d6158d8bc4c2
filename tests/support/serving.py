"""An application on a real socket, in this process: uvicorn as the gateway runs it, without its signals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from channels.testing_server import stop_accepting


@contextlib.asynccontextmanager
async def served(app: Any, **more: Any) -> AsyncIterator[int]:
    """Serve for the time of the context, with uvicorn's settings in `more`; answers the port."""
    settings = {"port": 0, "http": "httptools", "ws": "none", "lifespan": "off", "log_config": None, **more}
    server = uvicorn.Server(uvicorn.Config(app, **settings))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign] # pytest keeps its own
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 # uvicorn tells it in no other way
            await asyncio.sleep(0.005)
    [listening] = server.servers
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        await stop_accepting(listening)
        server.should_exit = True
        await serving
