"""Signature version 4 for requests of one shape: JSON or nothing in the body, no query.

botocore derives the key and signs. What is signed (the "canonical request") is written here: botocore finds the shape
of each request anew, which took twice the time that the rest of a send takes. Refuses to know any service.

Where it is written: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlsplit

# pyright: reportMissingTypeStubs=false
# botocore has no types of its own; what is used of it is held to be `Any`.
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

__all__ = ["AwsSigner"]


class _Signer(SigV4Auth):
    """botocore's signer. A day's key comes of four steps that are the same all day: they are taken once."""

    _STEPS = 4

    def __init__(self, credentials: Credentials, service: str, region: str) -> None:
        super().__init__(credentials, service, region)
        self._known: dict[tuple[bytes, str], Any] = {}

    def _sign(self, key: bytes, msg: str, hex: bool = False) -> Any:  # noqa: A002, FBT001, FBT002 # botocore's own names
        if hex:
            return super()._sign(key, msg, hex)  # pyright: ignore[reportUnknownMemberType]
        made = self._known.get((key, msg))
        if made is None:
            if len(self._known) >= self._STEPS:
                self._known.clear()
            made = self._known[key, msg] = super()._sign(key, msg)  # pyright: ignore[reportUnknownMemberType]
        return made


@lru_cache(maxsize=4)  # under load the same second is written hundreds of times
def _timestamp(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y%m%dT%H%M%SZ")


class AwsSigner:
    """Signs for one account, service and region, below one base URL. A signature holds for five minutes."""

    def __init__(self, credentials: Credentials, service: str, region: str, base_url: str) -> None:
        self._signer: Any = _Signer(credentials, service, region)
        self._token: str | None = credentials.token  # pyright: ignore[reportUnknownMemberType] # botocore has no types
        base: Any = AWSRequest(method="GET", url=base_url)
        self._host: str = self._signer.headers_to_sign(base)["host"]
        self._path = quote(urlsplit(base_url).path.rstrip("/"), safe="/~")

    def headers(self, method: str, path: str, body: bytes, now: float) -> dict[str, str]:
        """Make all headers of a request at `now` (Unix time in seconds); the wire adds `Host`. Pure."""
        at = _timestamp(int(now))
        headers = {"content-type": "application/json"} if body else {}
        headers |= {"host": self._host, "x-amz-date": at}
        if self._token:
            headers["x-amz-security-token"] = self._token
        names = ";".join(headers)  # in the order of the alphabet, as they stand above
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = f"{method}\n{self._path}{path}\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        shown = SimpleNamespace(context={"timestamp": at})  # all that botocore asks of a request from here on
        signature = self._signer.signature(self._signer.string_to_sign(shown, canonical), shown)
        scope = self._signer.scope(shown)
        del headers["host"]
        return {
            **headers,
            "authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}",
        }
