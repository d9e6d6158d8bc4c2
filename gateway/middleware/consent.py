"""Whether a delivery may be sent at all, asked just before it is: the address, the person, the hour.

Owns the rules that may have changed between accepting and sending: suppressions and the deadline. Refuses to know how a
message looks and where it goes. Pure; times are Unix milliseconds.
"""

from __future__ import annotations

from gateway.config.settings import CategorySettings
from gateway.middleware.contract import Dropped, Held
from gateway.model.states import Status, Why
from gateway.storage.contract import SuppressionRow


def decide(
    *,
    suppression: SuppressionRow | None,
    category: CategorySettings,
    opted_out: bool = False,
    deadline_at: int,
    now: int,
) -> Dropped | Held | None:
    """Answer `None` when the delivery may be sent, else why not, or not yet.

    A suppressed address is never written to, whatever the category: `required` passes opt-outs, not suppressions. The
    reason is `suppressed`; why the address is on the list stands in `detail`. `opted_out` says that this address wants
    no more of this category.
    """
    if suppression is not None:
        return Dropped(status=Status.SKIPPED, reason=Why.SUPPRESSED, detail=_because(suppression))
    if opted_out and not category.required:
        return Dropped(status=Status.SKIPPED, reason=Why.OPTED_OUT, detail="unsubscribed from this category")
    if now >= deadline_at:
        return Dropped(status=Status.EXPIRED, reason=Why.EXPIRED)
    return None


def _because(suppression: SuppressionRow) -> str:
    """Say why an address is on the list and who put it there: `address_dead (smtp-main): 550 5.1.1 …`."""
    origin = f"{suppression.reason.value} ({suppression.source})"
    return origin if suppression.detail is None else f"{origin}: {suppression.detail}"
