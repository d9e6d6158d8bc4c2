"""What a store may raise."""

from __future__ import annotations

from gateway.errors import GatewayError


class StoreUnavailable(GatewayError):
    """The database cannot be reached, is locked, full or read-only: nothing of this call was kept. Try again later."""


class StoreDamaged(GatewayError):
    """The database file is damaged or of a schema this code does not know: the gateway must not start."""
