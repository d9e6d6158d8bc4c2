"""Where text messages may go: the guard against pumping fraud, shared by every SMS adapter.

Owns the form of numbers and the reading of calling codes. Refuses to know providers. Pure.

The fraud: somebody makes a sign-in form send codes to expensive numbers abroad and shares the carrier's income. Whoever
serves three countries loses nothing by refusing the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from channels.contract import Reason, Rejected, SettingsFault

__all__ = ["check_countries", "refuse_number"]

_E164_DIGITS: Final = 15  # E.164 6.2.1: the longest number
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch


def check_countries(countries: Sequence[str] | None) -> None:
    """Refuse settings that are no calling codes. Raises `SettingsFault`."""
    if countries is None:
        return
    if not countries:
        raise SettingsFault("countries", "an empty list would send nothing: leave it out to allow every country")
    for code in countries:
        digits = code.removeprefix("+")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _E164_DIGITS) or digits.startswith("0"):
            raise SettingsFault("countries", f"{code!r} is no calling code: write digits, such as 49 or +49")


def refuse_number(phone: str, countries: Sequence[str] | None) -> Rejected | None:
    """Say why `phone` may not be written to, or `None` if it may.

    Calling codes are prefix-free (E.164 annex A), so the beginning of the number decides. A longer entry allows less:
    `1415` is San Francisco alone, which matters since +1 is shared by 25 countries.
    """
    if not _E164(phone):
        return Rejected(Reason.INVALID_ADDRESS, "not a phone number in E.164: + and up to 15 digits")
    if countries is None:
        return None
    digits = phone.removeprefix("+")
    if any(digits.startswith(code.removeprefix("+")) for code in countries):
        return None
    return Rejected(Reason.POLICY, "this number's calling code is not among the provider's `countries`")
