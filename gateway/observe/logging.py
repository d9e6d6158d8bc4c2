"""Log lines: one JSON object each, or a readable form on a terminal; the gateway's own and those of its libraries.

Owns the way every line takes: request id, level and time are added, addresses and secrets masked, and line breaks
escaped, so that no caller can write a line of its own. `configure` is called once, by `gateway.bootstrap` or the
command line; importing this module changes nothing.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from typing import Any, Final, TextIO, cast

import msgspec
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from gateway.config.settings import LogFormat, LoggingSettings
from gateway.observe.masking import STARS, mask_address, mask_text

__all__ = ["bind_request_id", "clear_request_id", "configure", "get_logger", "mask_address", "mask_text"]

_TRACE_FIELD: Final = "exception"
_ADDRESS_FIELDS: Final = frozenset({"address", "addresses", "bcc", "cc", "email", "from", "phone", "recipient", "to"})
_SECRET_FIELD: Final = re.compile(
    r"(?i)pass(?:word|wd)?$|secret|token$|credential|authorization|(?:^|api_|bootstrap_|secret_|private_)key$|cookie"
)
_BODY_FIELDS: Final = frozenset({"body", "content", "html", "text", "data", "raw", "payload"})
"""No adapter and no library may bring a message into a log by accident."""
_MOST_CHARS: Final = 8192
"""Of one field: a provider's endless error page must not fill the disk."""
_MOST_ITEMS: Final = 100
_DEEPEST: Final = 6
_INT_MOST: Final = 2**63
"""What the JSON encoder takes."""
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROLS_IN_TRACE: Final = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""Set for every request, and read for few: structlog's own binding takes four times as long to set."""
_QUIET: Final = ("aiosqlite", "asyncio", "httpcore", "httpx", "alembic", "sqlalchemy", "uvicorn.access")
"""Libraries that tell more than operators want to read; their warnings still come through."""


def configure(settings: LoggingSettings, stream: TextIO | None = None) -> None:
    """Send every line of this process to `stream` (default: standard error). May be called again.

    Standard error, because standard output belongs to what a command answers.
    """
    target = stream if stream is not None else sys.stderr
    level = logging.getLevelNamesMapping()[settings.level.value.upper()]
    readable = settings.format is LogFormat.CONSOLE or (settings.format is LogFormat.AUTO and target.isatty())
    shared = _shared()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # tests, and a second `configure`, must reach loggers made before
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), structlog.processors.format_exc_info],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                clean,
                *((_indent_trace, _console(target)) if readable else (_json(),)),
            ],
        ),
    )
    _take_over(handler, level)


def get_logger(name: str) -> Any:
    """Give a logger: `log.info("event_name", field=value)`. Works before `configure`, too."""
    return structlog.stdlib.get_logger(name)


def bind_request_id(request_id: str) -> None:
    """Put the request's id on every line that this task, and those it starts, write from now on."""
    _REQUEST_ID.set(request_id)


def clear_request_id() -> None:
    """Forget it."""
    _REQUEST_ID.set(None)


def clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask and escape every field of a line. The last processor before the line is written; never fails."""
    event.pop("color_message", None)  # uvicorn's second copy of each of its lines, with terminal codes
    return {_escaped(str(name)): _clean_field(str(name), value) for name, value in event.items()}


def _clean_field(name: str, value: Any) -> Any:
    if name == _TRACE_FIELD and isinstance(value, str):
        return _CONTROLS_IN_TRACE.sub(_escape, mask_text(value[-_MOST_CHARS:]))
    return _clean(name, value, 0)


def _clean(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < _INT_MOST):
        return value
    lowered = name.lower()
    if lowered in _BODY_FIELDS or _SECRET_FIELD.search(lowered):
        return STARS
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        kept = list(cast("Mapping[Any, Any]", value).items())[:_MOST_ITEMS]
        return {_escaped(str(key)): _clean(str(key), item, depth + 1) for key, item in kept}
    if isinstance(value, list | tuple | set | frozenset):
        items = list(cast("Collection[Any]", value))
        return [_clean(name, item, depth + 1) for item in items[:_MOST_ITEMS]]
    text = _shown(value)
    return _escaped(mask_address(text) if lowered in _ADDRESS_FIELDS else mask_text(text))


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - a broken `__str__` must not take the line with it
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    return text if len(text) <= _MOST_CHARS else text[:_MOST_CHARS] + "…"


def _escaped(text: str) -> str:
    return _CONTROLS.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


def _shared() -> list[Processor]:
    return [
        _add_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if (request_id := _REQUEST_ID.get()) is not None:
        event.setdefault("request_id", request_id)
    return event


def _json() -> Processor:
    encode = msgspec.json.Encoder(enc_hook=str).encode

    def render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
        first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
        return encode({**first, **event}).decode()

    return render


def _indent_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Set a trace in from the margin: the words of an exception may come from a caller, and may hold line breaks."""
    if isinstance(trace := event.get(_TRACE_FIELD), str):
        event[_TRACE_FIELD] = "    " + trace.replace("\n", "\n    ")
    return event


def _console(target: TextIO) -> Processor:
    return structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _take_over(handler: logging.Handler, level: int) -> None:
    """Make ours the only handler, and let the libraries' loggers reach it."""
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
