"""What accepting is measured against: a bare Litestar endpoint that answers 202, under the gateway's own server.

    python -m tests.bench.bare        prints `listening PORT`

`/bare` looks at nothing; `/read` decodes the JSON body, which is the least that any use of it must do; `/typed` takes
it as the same type as ours, the way Litestar is meant to be used.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import Any

import uvicorn
import uvloop
from litestar import Litestar, Request, post

from gateway.model.requests import SendRequest


@post("/bare", status_code=202)
async def bare() -> dict[str, str]:
    return {"id": "ntf_" + "0" * 32, "status": "processing"}


@post("/read", status_code=202)
async def read(request: Request[Any, Any, Any]) -> dict[str, str]:
    await request.json()
    return {"id": "ntf_" + "0" * 32, "status": "processing"}


@post("/typed", status_code=202)
async def typed(data: SendRequest) -> dict[str, str]:
    return {"id": "ntf_" + "0" * 32, "status": "processing"}


async def serve() -> None:
    """Serve until a signal."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(
        Litestar([bare, read, typed], openapi_config=None, logging_config=None),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    print(f"listening {listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


def main() -> None:
    """Serve until told to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
