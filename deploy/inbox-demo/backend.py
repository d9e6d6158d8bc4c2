# ruff: noqa: INP001 - a program of its own, no part of a package
"""The shop's own back end, as small as it can be: it serves the page, and asks the gateway for the reader's token.

    KEY=ntfg_live_… python3 backend.py          # then open http://127.0.0.1:8090

A real one takes the user from its own session. It never takes the id from the page: whoever asks gets a token for the
person that is signed in, and for nobody else.
"""

from __future__ import annotations

import functools
import json
import os
import urllib.parse
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Shop(SimpleHTTPRequestHandler):
    """Serves the page of one shop; `settings` says which gateway, which key, and who is signed in."""

    def __init__(self, settings: dict[str, str], *args: Any) -> None:
        self.settings = settings
        super().__init__(*args, directory=str(Path(__file__).parent))

    def do_GET(self) -> None:
        """Answer what the page must know, or a file."""
        if self.path != "/config.json":
            super().do_GET()
            return
        self._answer(json.dumps({name: self.settings[name] for name in ("gateway", "user")}).encode())

    def do_POST(self) -> None:
        """Mint a token for whoever is signed in."""
        if self.path != "/inbox-token":
            self.send_error(404)
            return
        user = urllib.parse.quote(self.settings["user"], safe="")
        request = urllib.request.Request(  # noqa: S310 - the gateway's own address
            f"{self.settings['gateway']}/v1/users/{user}/inbox/token",
            data=b"{}",
            headers={"Authorization": f"Bearer {self.settings['key']}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the same
            self._answer(answer.read())

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


def shop(port: int, settings: dict[str, str]) -> ThreadingHTTPServer:
    """Make the server; `settings` has `gateway`, `key` and `user`."""
    return ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Shop, settings))


if __name__ == "__main__":
    made = shop(
        int(os.environ.get("PORT", "8090")),
        {
            "gateway": os.environ.get("GATEWAY", "http://127.0.0.1:8080"),
            "key": os.environ["KEY"],
            "user": os.environ.get("SIGNED_IN", "42"),
        },
    )
    print(f"http://127.0.0.1:{made.server_port}")  # noqa: T201 - it is a program
    made.serve_forever()
