"""Several e-mails in one call: what REST adapters with a batch call share.

Owns the way from messages to calls and back to one outcome each, in order. Refuses to know any provider: which messages
may share a call, how it is written and what its answer says is the adapter's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from channels.contract import Blame, Outcome, Rejected, blame_of

__all__ = ["each_alone_if_refused", "send_in_calls"]

Draft = TypeVar("Draft")


async def send_in_calls(
    drafts: Sequence[Draft | Rejected],
    call: Callable[[Sequence[Draft]], Awaitable[Sequence[Outcome]]],
    *,
    kind: Callable[[Draft], str | None],
    size_bytes: Callable[[Draft], int],
    most_bytes: int,
) -> list[Outcome]:
    """Send drafts in as few calls as may be, at once; what was refused beforehand keeps its place.

    Drafts of one kind share calls of at most `most_bytes`; those of no kind go alone.
    """
    ready = {place: draft for place, draft in enumerate(drafts) if not isinstance(draft, Rejected)}
    sized = [(place, kind(draft), size_bytes(draft)) for place, draft in ready.items()]
    calls = _divided(sized, most_bytes)
    said = await asyncio.gather(*(call([ready[place] for place in places]) for places in calls))
    found = {
        place: outcome
        for places, each in zip(calls, said, strict=True)
        for place, outcome in zip(places, each, strict=True)
    }
    return [draft if isinstance(draft, Rejected) else found[place] for place, draft in enumerate(drafts)]


def _divided(sized: Sequence[tuple[int, str | None, int]], most_bytes: int) -> list[list[int]]:
    """Divide (place, kind, bytes) into calls; what is larger alone stands alone."""
    calls: list[list[int]] = []
    filling: dict[str, tuple[list[int], int]] = {}
    for place, kind, size in sized:
        begun = None if kind is None else filling.get(kind)
        if begun is None or begun[1] + size > most_bytes:
            begun = (list[int](), 0)
            calls.append(begun[0])
        begun[0].append(place)
        if kind is not None:
            filling[kind] = (begun[0], begun[1] + size)
    return calls


async def each_alone_if_refused(
    whole: Outcome,
    drafts: Sequence[Draft],
    send: Callable[[Draft], Awaitable[Outcome]],
) -> Sequence[Outcome]:
    """Read an answer to a whole call: everybody's, unless its contents were refused. Then each is sent by itself."""
    if isinstance(whole, Rejected) and blame_of(whole.reason) is not Blame.ACCOUNT:
        return await asyncio.gather(*(send(draft) for draft in drafts))
    return [whole] * len(drafts)
