"""What the store asks of a database: transactions, gathered or alone.

Owns the vocabulary that `sqlite` and `postgres` fill. Statements are synchronous functions over a connection, written
once; each database decides where they run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection

OnBatch = Callable[[str, int], None]
"""Hears of each writing batch: the verb's name, and how many calls shared the commit."""

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Verb(Generic[Request, Answer]):
    """A gathered operation: one transaction's worth of requests in, as many answers out, in order.

    `weight` tells the bytes of a request where they may be many.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Connection, Sequence[Request]], list[Answer]],
        *,
        weight: Callable[[Request], int] | None = None,
    ) -> None:
        self.name = name
        self.run = run
        self.weight = weight


def unheard(_verb: str, _size: int) -> None:
    """Stand for nobody who wants to hear of batches."""


class Database(Protocol):
    """A database. Used from one event loop. Everything may raise `StoreUnavailable`."""

    async def open(self) -> None:
        """Connect, check and, where that is safe, migrate."""
        ...

    async def close(self) -> None:
        """Finish what is being written and disconnect. May be called twice."""
        ...

    async def now_ms(self) -> int:
        """Tell the database's time."""
        ...

    async def migrate(self) -> list[str]:
        """Bring the schema up to date; answers the revisions that ran."""
        ...

    async def pending(self) -> list[str]:
        """Name the revisions that have not run."""
        ...

    async def gather_write(self, verb: Verb[Request, Answer], request: Request) -> Answer:
        """Join the next writing batch; answers after its commit is on disk."""
        ...

    async def gather_writes(self, verb: Verb[Request, Answer], requests: Sequence[Request]) -> list[Answer]:
        """Join the next writing batches with several requests; answers in order, once all are settled."""
        ...

    async def gather_each(self, verb: Verb[Request, Answer], requests: Sequence[Request]) -> list[Answer | Exception]:
        """As `gather_writes`, but each request has its own fate: its answer, or what made it fail."""
        ...

    async def gather_read(self, verb: Verb[Request, Answer], request: Request) -> Answer:
        """Join the next reading batch."""
        ...

    async def write(self, act: Callable[[Connection], Answer]) -> Answer:
        """Run one act in a writing transaction; answers after its commit. May run it again after a clash."""
        ...

    async def read(self, act: Callable[[Connection], Answer]) -> Answer:
        """Run one act that only reads."""
        ...

    async def wake(self, lanes: Collection[str]) -> None:
        """Tell all processes over this database that something is due in these lanes."""
        ...

    async def listen(self, told: Callable[[str], None]) -> None:
        """Call `told` with each lane that is told of, until cancelled or the connection is lost."""
        ...

    async def scrub(self) -> bool:
        """Overwrite what deleted rows left in files; `False` where something still holds an older state of them."""
        ...


def run_alone(conn: Connection, acts: Sequence[Callable[[Connection], Any]]) -> list[Any]:
    """Run acts one after the other: the verb behind `write`."""
    return [act(conn) for act in acts]
