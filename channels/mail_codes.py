"""Enhanced mail status codes (RFC 3463): what `5.1.1` says about an address.

Owns the reading of such a code out of text and its meaning where it is permanent. Refuses to know where it was said: in
a reply to RCPT, in a bounce mail or in a provider's event, for which each reader has rules of its own.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from channels.contract import Reason

__all__ = ["Code", "first_code", "is_policy", "permanent"]

POLICY: Final = 7
MAILBOX: Final = 2

# Not a part of an IP address or of a longer number; RFC 3463, 2 has up to three digits each.
_CODE: Final = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)")


class Code(NamedTuple):
    """A code's class (2 success, 4 for now, 5 for good), subject and detail."""

    kind: int
    subject: int
    detail: int


def first_code(text: str) -> Code | None:
    """Find the first code in a text."""
    found = _CODE.search(text)
    return None if found is None else Code(int(found[1]), int(found[2]), int(found[3]))


def is_policy(text: str | None) -> bool:
    """Say whether a permanent code at the beginning is of the subject "security or policy": never a dead address."""
    found = first_code(text or "")
    return found is not None and (found.kind, found.subject) == (5, POLICY)


# RFC 3463, 3.2 (subject 1, addressing), by its words. Dead, since each names the destination and a permanent state:
#   1.1 "The mailbox specified in the address does not exist."
#   1.2 "The destination system specified in the address does not exist or is incapable of accepting mail."
#   1.3 "The destination address was syntactically invalid."
#   1.6 "The mailbox address provided was at one time valid, but mail is no longer being accepted for that address."
#   1.10 RFC 7505, 4.2: the recipient's domain has a null MX.
# Not dead: 1.0 ("other address status"; Postfix says it of senders, and at RCPT, as it delays such refusals) and
# 1.4 (ambiguous). 1.7 and 1.8 speak of the sender's address.
_DEAD: Final = frozenset({1, 2, 3, 6, 10})
_SENDERS: Final = frozenset({7, 8})

_PERMANENT: Final[dict[tuple[int, int], Reason]] = {
    (2, 3): Reason.TOO_LARGE,  # longer than this mailbox allows
    (3, 1): Reason.PROVIDER_DOWN,  # mail system full
    (3, 2): Reason.PROVIDER_DOWN,  # not accepting network messages
    (3, 4): Reason.TOO_LARGE,
    (3, 5): Reason.PROVIDER_DOWN,  # incorrectly configured
    (6, 7): Reason.INVALID_ADDRESS,  # RFC 6531: non-ASCII addresses not permitted there
}
_SUBJECTS: Final[dict[int, Reason]] = {
    1: Reason.INVALID_ADDRESS,
    2: Reason.INVALID_ADDRESS,  # mailbox: disabled, full (RFC 3463: the recipient "can delete messages"), no list
    3: Reason.POLICY,
    4: Reason.INVALID_ADDRESS,  # no route to it; Exchange Online says 5.4.1 of mailboxes it does not know
    5: Reason.MESSAGE_INVALID,  # protocol
    6: Reason.MESSAGE_INVALID,  # content
    7: Reason.POLICY,
}


def permanent(subject: int, detail: int, *, about_sender: bool = False) -> Reason | None:
    """Say what a permanent code means; `None` for a subject that says nothing (0, or one that nobody defined).

    `about_sender`: it was said of the sender (MAIL FROM), so nobody else's address may suffer for it.
    """
    found = _PERMANENT.get((subject, detail), _SUBJECTS.get(subject))
    if about_sender:
        return Reason.POLICY if found is Reason.INVALID_ADDRESS else found
    if subject == 1 and detail in _DEAD:
        return Reason.ADDRESS_DEAD
    if subject == 1 and detail in _SENDERS:
        return Reason.POLICY
    return found
