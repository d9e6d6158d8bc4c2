"""The one wire under every REST adapter.

Owns how a request is put together, what the common statuses mean and the settings that every REST provider shares.
Refuses to know any provider: adapters read their own answers first, and this file's rules are what is left. What is
sent and how it may fail is `channels.http_transport`; which addresses a caller may name is `channels.address_guard`.

    wire = Wire(settings, tools, base_url="https://api.example.com", headers={"Authorization": f"Bearer {token}"})
    result = await wire.post("/v1/messages", json={"to": message.to, "text": message.content.text})
    return judge(result, _read)
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, assert_never
from urllib.parse import quote_plus

import aiohttp.abc
import httpx
import msgspec
from msgspec import Meta

from channels.address_guard import Guard
from channels.contract import Check, Outcome, Reason, Rejected, Retry, SettingsFault, Tools, Unknown
from channels.http_proxy import DIRECT, read_proxy
from channels.http_transport import Answer, Connections, MaybeSent, NotSent, Result, WireTransport, result_of
from channels.retry_after import parse_retry_after

__all__ = [
    "Answer",
    "Guard",
    "MaybeSent",
    "NotSent",
    "Part",
    "Result",
    "Wire",
    "WireSettings",
    "basic",
    "check_by_get",
    "judge",
    "parse_retry_after",
    "result_of",
    "words",
]

Seconds = Annotated[float, Meta(gt=0, le=3600)]

USER_AGENT: Final = "notification-gateway"
_DETAIL_CHARS: Final = 300
_TOKEN: Final = re.compile(r"[!-~]+").fullmatch

Json = Any
"""What `msgspec.json.encode` takes."""


class WireSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every REST provider can be told; inherit it. Times are in seconds.

    `repr` shows no value at all, so that no adapter's secret is ever printed; keep it.
    """

    connections: Annotated[int, Meta(ge=1, le=500)] = 8
    """How many requests at the same time; the adapter's `Limits.concurrency`."""
    connect_timeout_s: Seconds = 10.0
    """Until a connection is ready: a free one of ours, DNS, TCP, proxy and TLS together. Afterwards: not sent."""
    read_timeout_s: Seconds = 30.0
    """The longest silence of a provider that owes an answer. Afterwards: unknown."""
    total_timeout_s: Seconds = 60.0
    """All of it: bounds the writing of a large body and answers that trickle."""
    idle_s: Seconds = 15.0
    """Unused connections are closed after this: before the provider does it (load balancers wait 60 s, some 20), so
    that a dead one is rarely the reason for an unknown outcome."""
    answer_limit_bytes: Annotated[int, Meta(ge=1024, le=16 * 1024 * 1024)] = 65_536
    """More of an answer is not read. Providers answer with less than a thousand bytes."""
    proxy: str | None = None
    """`http://user:password@host:port`; unset: the environment's HTTPS_PROXY, HTTP_PROXY and NO_PROXY; `direct`: none.
    Where callers name the addresses (webhooks, push), none is used: a proxy would resolve names past our check."""
    verify: bool = True
    """Whether the server's certificate is checked."""
    ca_file: str | None = None
    """Trust these certificates (PEM) instead of the system's."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a multipart form; with a `filename` it is a file."""

    name: str
    content: bytes | str
    filename: str | None = None
    content_type: str | None = None


class Wire:
    """One provider's way out. Opens nothing when built; used from one event loop; closed once (or twice).

    `base_url` stands before every path. `headers` go with every request. With a `guard`, addresses may come from
    callers: every URL is checked and every address judged before it is dialled. `resolver` and `environ` are for tests.
    """

    def __init__(
        self,
        settings: WireSettings,
        tools: Tools,
        *,
        base_url: str = "",
        headers: Mapping[str, str] | None = None,
        guard: Guard | None = None,
        resolver: aiohttp.abc.AbstractResolver | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        _refuse_what_cannot_work(settings, base_url, guard)
        self._base_url = base_url.rstrip("/")
        self._headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **(headers or {})}
        self._limit = settings.answer_limit_bytes
        self._now = tools.now
        self._client: httpx.AsyncClient | None = None
        self._connections = Connections(
            size=settings.connections,
            connect_s=settings.connect_timeout_s,
            silence_s=settings.read_timeout_s,
            total_s=settings.total_timeout_s,
            idle_s=settings.idle_s,
            tls=_tls_context(settings.ca_file, settings.verify),
            proxy=None if settings.proxy == DIRECT else settings.proxy,
            direct=settings.proxy == DIRECT,
            guard=guard,
            resolver=resolver,
            environ=environ,
        )

    @property
    def client(self) -> httpx.AsyncClient:
        """An httpx client over the same connections, limits and headers, for vendors' SDKs; `result_of` its errors.

        Slower than `request` by what httpx itself costs. It is closed with the wire.
        """
        if self._client is None:
            self._client = httpx.AsyncClient(
                transport=WireTransport(self._connections, limit=self._limit),
                base_url=self._base_url,
                headers=self._headers,
                trust_env=False,
                follow_redirects=False,
            )
        return self._client

    async def post(
        self,
        target: str,
        *,
        json: Json = None,
        content: bytes | None = None,
        form: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        parts: Sequence[Part] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> Result:
        """Send a POST request: see `request`."""
        return await self.request(
            "POST", target, json=json, content=content, form=form, parts=parts, headers=headers, auth=auth
        )

    async def get(
        self, target: str, *, headers: Mapping[str, str] | None = None, auth: tuple[str, str] | None = None
    ) -> Result:
        """Send a GET request: see `request`."""
        return await self.request("GET", target, headers=headers, auth=auth)

    async def request(
        self,
        method: str,
        target: str,
        *,
        json: Json = None,
        content: bytes | None = None,
        form: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        parts: Sequence[Part] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> Result:
        """Send once and read the answer to the limit. Nothing that a provider or network does raises.

        `target` is a path below `base_url` or a whole URL; it goes out as it stands, so quote what you put into it.
        The body is at most one of `json` (encoded here), `content`, `form` (urlencoded) and `parts` (multipart);
        a content type in `headers` wins. `auth` is user and password for basic authentication.
        """
        body, content_type = _body(json, content, form, parts)
        sent = dict(self._headers)
        if content_type is not None:
            sent["Content-Type"] = content_type
        if auth is not None:
            sent["Authorization"] = basic(*auth)
        if headers:
            sent.update(headers)
        url = target if target.startswith(("https://", "http://")) else self._base_url + target
        result = await self._connections.exchange(method, url, headers=sent, body=body, limit=self._limit)
        if isinstance(result, Answer) and (wish := result.headers.get("retry-after")) is not None:
            return msgspec.structs.replace(result, retry_after=parse_retry_after(wish, self._now()))
        return result

    async def aclose(self) -> None:
        """Close the connections. Repeatable; later requests are not sent."""
        if self._client is not None:
            await self._client.aclose()
        await self._connections.aclose()


# What an answer means where the provider's adapter has nothing to say about it. Pure.

_ACCOUNT: Final = frozenset({401, 403})
_TOO_MANY: Final = 429
_UNAVAILABLE: Final = 503
# 303 is left out: "see other" answers a POST that was carried out (RFC 9110 15.4.4).
_MOVED: Final = frozenset({301, 302, 307, 308})
_CLIENT_ERRORS: Final = range(400, 500)


def judge(result: Result, read: Callable[[Answer], Outcome | None], *, callers_endpoint: bool = False) -> Outcome:
    """Turn a result into an outcome: the adapter's `read` first, the house rules for what it answers `None` to.

    Not sent: `Retry`. Maybe sent, 5xx, an unread success: `Unknown`. 401 and 403: the account, `Rejected`. 429, 503:
    `Retry` as the provider wishes. A redirect and every other 4xx: `Retry`, never a reason to suppress anybody.

    With `callers_endpoint` the other side is one caller's own: nothing that it does may stop or slow the provider, so
    every reason here is that delivery's affair (`Reason.RETRY`), 401 and 403 too.
    """
    match result:
        case NotSent(detail=detail, reason=Reason.MESSAGE_INVALID):
            return Rejected(Reason.MESSAGE_INVALID, detail)
        case NotSent(detail=detail, reason=reason):
            return Retry(Reason.RETRY if callers_endpoint else reason, detail=detail)
        case MaybeSent(detail=detail):
            return Unknown(Reason.RETRY if callers_endpoint else Reason.TIMED_OUT, detail)
        case Answer():
            own = read(result)
            return _by_status(result, callers_endpoint=callers_endpoint) if own is None else own
        case _:
            assert_never(result)


def _by_status(answer: Answer, *, callers_endpoint: bool) -> Outcome:
    status, said = answer.status, words(answer)
    theirs = Reason.RETRY if callers_endpoint else Reason.PROVIDER_DOWN
    if status == _TOO_MANY:
        return Retry(Reason.RETRY if callers_endpoint else Reason.RATE_LIMITED, answer.retry_after, said)
    if status == _UNAVAILABLE:
        return Retry(theirs, answer.retry_after, said)
    if status in _MOVED:
        return Retry(theirs, detail=f"{said}: redirects are not followed")
    if status in _ACCOUNT and not callers_endpoint:
        return Rejected(Reason.ACCOUNT_PROBLEM, said)
    if status in _CLIENT_ERRORS:
        return Retry(Reason.RETRY, answer.retry_after, said)
    return Unknown(Reason.RETRY if callers_endpoint else Reason.TIMED_OUT, f"{said}: not understood")


_TEXT_CHARS: Final = 1000  # of what a provider says, before it is made shorter: an error text can be a page
_ADDRESSES: Final = re.compile(r"[^\s<>\"'(),;:=]+@[^\s<>\"'(),;]+|\+\d[\d ().-]{6,}\d")


async def check_by_get(wire: Wire, path: str) -> Check:
    """Ask whether credentials are good by a harmless GET of a path the operator names; empty: there is none."""
    if not path:
        return Check(ok=None, detail="cannot be checked without sending: no check_path is set")
    result = await wire.get(path)
    return (
        Check(ok=result.ok, detail=words(result))
        if isinstance(result, Answer)
        else Check(ok=False, detail=result.detail)
    )


def words(answer: Answer, *said: object) -> str:
    """Make a `detail`: the status and what else the provider said, such as its code and its sentence.

    E-mail addresses and phone numbers are masked, control characters removed, 300 characters kept. Never pass a body.
    """
    found = " ".join(str(each) for each in said if each not in {None, ""})
    text = f"HTTP {answer.status}: {found}" if found else f"HTTP {answer.status}"
    clean = "".join(char if char.isprintable() else " " for char in text[:_TEXT_CHARS])
    return _ADDRESSES.sub("[address]", " ".join(clean.split()))[:_DETAIL_CHARS]


def basic(user: str, password: str) -> str:
    """Make the value of an `Authorization` header (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


# How a body is put together. Pure.


def _body(
    json: Json,
    content: bytes | None,
    form: Mapping[str, str] | Sequence[tuple[str, str]] | None,
    parts: Sequence[Part] | None,
) -> tuple[bytes | None, str | None]:
    if json is not None:
        return msgspec.json.encode(json), "application/json"
    if form is not None:
        fields = form.items() if isinstance(form, Mapping) else form
        text = "&".join([f"{_form_name(name)}={quote_plus(str(value))}" for name, value in fields])
        return text.encode("ascii"), "application/x-www-form-urlencoded"
    if parts is not None:
        return _multipart(parts)
    return content, None


_form_name: Final = lru_cache(maxsize=256)(quote_plus)  # a provider has few, and the same in every form


def _multipart(parts: Sequence[Part]) -> tuple[bytes, str]:
    """Write `multipart/form-data` (RFC 7578). The boundary is a digest of the contents: no content can hold its own.

    The same message is so the same bytes at every attempt.
    """
    contents = [part.content.encode() if isinstance(part.content, str) else part.content for part in parts]
    digest = hashlib.sha256()
    for content in contents:
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    boundary = digest.hexdigest()[:48].encode("ascii")
    written: list[bytes] = []
    for part, content in zip(parts, contents, strict=True):
        head = f'Content-Disposition: form-data; name="{_quoted(part.name)}"'
        if part.filename is not None:
            head += f'; filename="{_quoted(part.filename)}"'
        if part.content_type is not None:
            head += f"\r\nContent-Type: {part.content_type}"
        written += [b"--", boundary, b"\r\n", head.encode(), b"\r\n\r\n", content, b"\r\n"]
    written += [b"--", boundary, b"--\r\n"]
    return b"".join(written), f"multipart/form-data; boundary={boundary.decode('ascii')}"


def _quoted(text: str) -> str:
    """Escape as browsers do (WHATWG HTML, "multipart form data"): these three characters and no others."""
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


# Settings.


def _refuse_what_cannot_work(settings: WireSettings, base_url: str, guard: Guard | None) -> None:
    if base_url and (not _TOKEN(base_url) or not base_url.startswith(("https://", "http://"))):
        raise SettingsFault("base_url", "write https://host/path")
    if "@" in base_url.partition("://")[2].partition("/")[0]:
        raise SettingsFault("base_url", "put user and password into their own settings, not into the URL")
    if settings.proxy is None or settings.proxy == DIRECT:
        return
    if guard is not None:
        raise SettingsFault("proxy", "addresses that callers name are dialled directly: a proxy would bypass the check")
    if read_proxy(settings.proxy) is None:
        raise SettingsFault("proxy", f"write http://host:port, or {DIRECT!r}; SOCKS is not supported")


@lru_cache(maxsize=16)  # reading the system's certificates takes 20 ms, and every wire wants the same ones
def _tls_context(ca_file: str | None, verify: bool) -> ssl.SSLContext:  # noqa: FBT001 - lru_cache is called by position
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsFault("ca_file", f"cannot be read as certificates: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
