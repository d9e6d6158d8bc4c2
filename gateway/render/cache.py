"""What was rendered just before: bounded by entries and by bytes, the longest unused goes first."""

from __future__ import annotations

import sys
from collections import OrderedDict

from channels.contract import Content


class RenderCache:
    """Finished messages by everything that made them. `most_bytes` of 0 keeps nothing."""

    def __init__(self, *, most_entries: int, most_bytes: int) -> None:
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._entries: OrderedDict[bytes, tuple[Content, int]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Content | None:
        """Find a message, and remember that it was asked for."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: bytes, content: Content, *, more_bytes: int = 0) -> None:
        """Keep a message, unless it alone would fill an eighth of the room. `more_bytes` is what its `data` weighs."""
        size = len(key) + more_bytes + 200  # 200: what the entry itself costs, near enough
        for text in (content.subject, content.text, content.html):
            size += sys.getsizeof(text) if text is not None else 0
        if size * 8 > self._most_bytes or key in self._entries:
            return
        self._entries[key] = (content, size)
        self.size_bytes += size
        while self.size_bytes > self._most_bytes or len(self._entries) > self._most_entries:
            _, (_, freed) = self._entries.popitem(last=False)
            self.size_bytes -= freed
