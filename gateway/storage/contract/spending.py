"""What a channel has spent: the row and the verbs."""

from __future__ import annotations

from typing import Protocol

from gateway.storage.contract.rows import Row


class Spend(Row, frozen=True, kw_only=True):
    """Ask for `amount` of a channel's money on one day, `most` being all there is.

    Amounts are whole millionths of the operator's currency. `day` is the day's beginning in Unix ms: it names the day
    and is compared with nothing but itself and older ones. A negative amount gives back what was not used after all.
    """

    channel: str
    day: int
    amount: int
    most: int


class SpendingStore(Protocol):
    """The verbs; gathered as `reserve` is."""

    async def spend(self, asked: Spend) -> int | None:
        """Set the amount aside and answer all that is spent of that day, or `None`: it does not fit, nothing is kept.

        Exact among any number of processes: no day ever holds more than `most`. *Gathers*.
        """
        ...

    async def spent(self, channel: str, day: int) -> int:
        """Tell what is spent of a day, set aside included."""
        ...
