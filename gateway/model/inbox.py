"""The inbox's words: the channel that the gateway itself is, and what people do with what lies in it.

Owns how a mark changes an item. Pure: refuses to know storage and HTTP.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from gateway.model.states import Engagement

INBOX: Final = "inbox"
"""The channel. No provider serves it, and its address is the user's id: every stored user has an inbox."""

PROVIDER: Final = "inbox"
"""What stands in the ledger where another channel names a provider."""


class Act(StrEnum):
    """What a person does with an item."""

    SEEN = "seen"
    READ = "read"
    UNREAD = "unread"
    ARCHIVE = "archive"
    UNARCHIVE = "unarchive"
    ACKNOWLEDGE = "acknowledge"


OF_ALL: Final = frozenset({Act.SEEN, Act.READ, Act.ARCHIVE})
"""What can be done with everything at once."""

TELLS: Final[dict[Act, tuple[Engagement, ...]]] = {
    Act.SEEN: (Engagement.SEEN,),
    Act.READ: (Engagement.SEEN, Engagement.READ),
    Act.UNREAD: (),
    Act.ARCHIVE: (Engagement.SEEN,),
    Act.UNARCHIVE: (),
    Act.ACKNOWLEDGE: (Engagement.SEEN, Engagement.READ, Engagement.ACKNOWLEDGED),
}
"""What each says of the delivery: whoever puts an item away has seen it, and whoever answers it has read it. Nothing
unsays it: an item that is marked as unread again was read."""
