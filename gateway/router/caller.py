"""Who calls: what a key may do and where its things belong."""

from __future__ import annotations

from uuid import UUID

import msgspec

from gateway.model.states import Mode, Scope


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated key. `admin` implies every other scope, and sees every project."""

    key_id: UUID
    name: str
    project: str
    mode: Mode
    scopes: frozenset[Scope]
    until: int | None = None
    """When it ends (Unix ms), if it does: what is told it for long ends then, too."""

    def may(self, scope: Scope) -> bool:
        """Say whether this key may do what needs `scope`."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def sees(self) -> str | None:
        """Name the one project it sees, or `None` for all of them."""
        return None if Scope.ADMIN in self.scopes else self.project
