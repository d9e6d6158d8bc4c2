"""The filters templates have: dates, numbers and money as the reader writes them, and links that are links.

Every filter reads the `Turn` under way, because a macro imported from a layout does not see its caller's context.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time, get_datetime_format, get_timezone_name
from babel.numbers import format_currency, format_decimal
from markupsafe import Markup

from gateway.errors import GatewayError

MOST_CHARS: Final = 1024 * 1024
"""Characters one rendered part may have. Mailboxes cut far below; more than this is a bomb."""
MOST_STEPS: Final = 20_000
"""Turns of all loops and calls in one part together: a message with more lines than this is a mistake or an attack."""

_MOST_REMEMBERED: Final = 2_000
_MOST_DIGITS: Final = 64
"""Characters of a number or date that is worth reading, and worth remembering."""
_GROWING: Final = frozenset({str, Markup, list, tuple})
_PLAIN: Final = frozenset({str, int, float})

_LINK = re.compile(r"(?:https?://|mailto:|tel:)[^\s<>\"'\x00-\x1f\x7f]+", re.IGNORECASE)
_IMAGE = re.compile(r"(?:https?://|cid:)[^\s<>\"'\x00-\x1f\x7f]+", re.IGNORECASE)
_CURRENCY = re.compile(r"[A-Z]{3}")
_LENGTHS: Final = frozenset({"short", "medium", "long", "full"})


class Refused(GatewayError):
    """What a filter or the sandbox will not do. The message names no data, so it may be shown."""


class Turn:
    """The state of the one part being rendered now. Rendering is synchronous, so one at a time is enough."""

    def __init__(self) -> None:
        self.locale = Locale("en")
        self.locale_name = "en"
        self.zone: tzinfo | None = None
        self.steps_left = MOST_STEPS

    def begin(self, locale: Locale, zone: tzinfo | None) -> None:
        """Start the next part."""
        if locale is not self.locale:
            self.locale = locale
            self.locale_name = str(locale)
        self.zone = zone
        self.steps_left = MOST_STEPS

    def remember(self, write: Callable[..., str]) -> Callable[..., str]:
        """Keep what a filter wrote: a message says most dates and sums twice, in its HTML and in its text.

        Babel needs some 20 µs for each, which was half of an order's rendering.
        """
        known: dict[tuple[object, ...], str] = {}

        def written(value: Any, *arguments: Any, **options: Any) -> str:
            # The type is part of the key: True, 1 and 1.0 are equal, and not written alike.
            kind = cast("type[object]", type(value))
            if kind not in _PLAIN or (kind is str and len(value) > _MOST_DIGITS):
                return write(value, *arguments, **options)
            key = (kind, value, arguments, *options.items(), self.locale_name, self.zone)
            text = known.get(key)
            if text is None:
                if len(known) >= _MOST_REMEMBERED:
                    known.clear()
                text = known[key] = write(value, *arguments, **options)
            return text

        return written

    def bounded(self, value: Any) -> Any:
        """Let a value through unless it is a text or list that only a bomb makes."""
        if type(value) in _GROWING and len(value) > MOST_CHARS:
            raise Refused("it makes too long a text")
        return value

    def join(self, values: Iterable[Any], between: str = "", attribute: str | int | None = None) -> str:
        """Join texts, measured before they are."""
        texts: list[str] = []
        size = 0
        for value in self.counted(values):
            chosen = value if attribute is None else value[attribute]
            texts.append("" if chosen is None else str(chosen))
            size += len(texts[-1]) + len(between)
            if size > MOST_CHARS:
                raise Refused("it makes too long a text")
        return str(between).join(texts)

    def replace(self, text: Any, old: str, new: str) -> str:
        """Replace every `old` in a text, measured before it is done."""
        text = str(text)
        if not old or text.count(old) * len(new) > MOST_CHARS:
            raise Refused("the filter 'replace' would make too long a text")
        return text.replace(old, new)

    def counted(self, values: Iterable[Any]) -> Iterable[Any]:
        """Charge a loop for its length; every `for` in a template runs through here."""
        try:
            length = len(values)  # pyright: ignore[reportArgumentType] # what has no length goes on below
        except TypeError:
            return self._one_by_one(values)
        self.charge(length)
        return values

    def _one_by_one(self, values: Iterable[Any]) -> Iterable[Any]:
        for value in values:
            self.charge(1)
            yield value

    def charge(self, steps: int) -> None:
        """Take steps from what this part may use. Raises `Refused`."""
        self.steps_left -= steps
        if self.steps_left < 0:
            raise Refused(f"its loops and calls are more than {MOST_STEPS}")


@lru_cache(maxsize=1024)  # Babel looks for a file at each call
def babel_locale(name: str) -> Locale:
    """Find what Babel knows for `name`: the region, else the language, else English."""
    wanted = name.replace("-", "_")
    while wanted:
        try:
            return Locale.parse(wanted)
        except (UnknownLocaleError, ValueError):
            wanted = wanted.rpartition("_")[0]
    return Locale("en")


def time_zone(name: str | None) -> tzinfo | None:
    """Find the zone, or None for none and for a name nobody knows (the person's own setting may be wrong)."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError, below
        return None
    except KeyError:
        return None


def filters_for(turn: Turn) -> dict[str, Callable[..., Any]]:
    """Make the filters, bound to the turn whose locale and zone they use."""

    def format_day(value: Any, length: str = "medium") -> str:
        moment = _moment(value, "date")
        if isinstance(moment, datetime):
            moment = _in_zone(moment, turn.zone).date()
        return format_date(moment, _length(length, "date"), locale=turn.locale)

    def format_clock(value: Any, length: str = "short") -> str:
        return _clock(_full(value, turn.zone, "time"), _length(length, "time"), turn.locale)

    def format_moment(value: Any, length: str = "medium", *, zone: bool = False) -> str:
        moment = _full(value, turn.zone, "datetime")
        pattern = str(get_datetime_format("medium", locale=turn.locale)).replace("'", "")
        # Seconds are noise in a message: the day has the length that was asked for, the time is always short.
        clock = _clock(moment, "short", turn.locale)
        if zone and moment.tzinfo is not None:
            clock += " " + _zone_name(moment, turn.locale)
        day = format_date(moment.date(), _length(length, "datetime"), locale=turn.locale)
        return pattern.replace("{0}", clock).replace("{1}", day)

    def format_amount(value: Any, digits: int | None = None) -> str:
        amount = _number(value, "number")
        pattern = None if digits is None else "#,##0" + ("." + "0" * min(digits, 10) if digits > 0 else "")
        return format_decimal(amount, pattern, locale=turn.locale)

    def format_money(value: Any, currency: Any) -> str:
        if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
            raise Refused("the filter 'money' needs a currency of three capital letters, such as EUR")
        return format_currency(_number(value, "money"), currency, locale=turn.locale)

    money = turn.remember(format_money)
    return {
        "date": turn.remember(format_day),
        "time": turn.remember(format_clock),
        "datetime": turn.remember(format_moment),
        "number": turn.remember(format_amount),
        "money": money,
        "currency": money,
        "link": link,
        "image": image,
        "join": turn.join,
        "replace": turn.replace,
        "_counted": turn.counted,
        "_bounded": turn.bounded,
    }


def link(value: Any) -> str:
    """Let an address through that is safe behind a link: http, https, mailto, tel. Raises `Refused` for others."""
    text = str(value).strip()
    if not _LINK.fullmatch(text):
        raise Refused("a link must start with http://, https://, mailto: or tel:")
    return text


def image(value: Any) -> str:
    """Let an address through that is safe as an image: http, https, or `cid:` of an attachment."""
    text = str(value).strip()
    if not _IMAGE.fullmatch(text):
        raise Refused("an image's address must start with http://, https:// or cid:")
    return text


def _moment(value: Any, name: str) -> date | datetime:
    match value:
        case date():
            return value
        case str():
            try:
                return datetime.fromisoformat(value)
            except ValueError:
                raise Refused(f"the filter {name!r} needs a date in the form 2026-11-30 or 2026-11-30T18:00Z") from None
        case _:
            raise Refused(f"the filter {name!r} needs a date, not {type(value).__name__}")


def _full(value: Any, zone: tzinfo | None, name: str) -> datetime:
    moment = _moment(value, name)
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    return _in_zone(moment, zone)


def _in_zone(moment: datetime, zone: tzinfo | None) -> datetime:
    """Show a moment in the reader's own zone. One without an offset is taken as it stands: it says no more."""
    return moment if zone is None or moment.tzinfo is None else moment.astimezone(zone)


def _clock(moment: datetime, length: Any, locale: Locale) -> str:
    # Recent CLDR puts U+202F before AM and PM, which many mail fonts and every short message lack.
    return format_time(moment, length, locale=locale).replace("\u202f", "\u00a0")


def _zone_name(moment: datetime, locale: Locale) -> str:
    """Write `CET`, `MEZ` or `UTC`; a zone without a short name in this language as its offset, `UTC+1`."""
    # Not by format_time: it forgets the day, and summer and winter have different names.
    name: str | None = get_timezone_name(moment, width="short", locale=locale)
    if name and name.isalpha():
        return name
    minutes = int((moment.utcoffset() or timedelta()).total_seconds()) // 60
    hours, rest = divmod(abs(minutes), 60)
    offset = f"{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02}" if rest else "")
    return "UTC" if minutes == 0 else f"UTC{offset}"


def _length(length: str, name: str) -> Any:
    if length not in _LENGTHS:
        raise Refused(f"the filter {name!r} knows short, medium, long and full")
    return length


def _number(value: Any, name: str) -> Decimal:
    if isinstance(value, bool) or len(str(value)) > _MOST_DIGITS:
        raise Refused(f"the filter {name!r} needs a number")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise Refused(f"the filter {name!r} needs a number") from None
    if not number.is_finite() or number.adjusted() > 30:  # noqa: PLR2004 # no sum has thirty digits; 1e999999 would
        raise Refused(f"the filter {name!r} needs a number of a sensible size")
    return number
