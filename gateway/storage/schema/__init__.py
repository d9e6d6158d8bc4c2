"""The tables: one definition for both databases.

Owns names, types, keys and indexes, and why each index is there. Refuses to know any statement. What the hot path
updates is kept narrow and apart from what is wide: `queue` beside `deliveries`, `requests` beside `notifications`. On
PostgreSQL no index mentions a column that `deliveries` changes, so that every settlement stays a heap-only update.
"""

from gateway.storage.schema.cancelling import CANCELLATIONS
from gateway.storage.schema.collapsing import COLLAPSING
from gateway.storage.schema.columns import METADATA
from gateway.storage.schema.digests import DIGEST_ITEMS, DIGESTS
from gateway.storage.schema.echoes import ECHOES
from gateway.storage.schema.edits import EDITED_TEMPLATES, TEMPLATE_EDITS
from gateway.storage.schema.inbox import INBOX_ITEMS, INBOXES
from gateway.storage.schema.messages import (
    ATTACHMENTS,
    ATTEMPTS,
    AWAITING,
    CAPTURED,
    COUNTS,
    DELIVERIES,
    EVENTS,
    IDEMPOTENCY,
    KEYS,
    NOTIFICATIONS,
    OPT_OUTS,
    PACING,
    QUEUE,
    REQUESTS,
    STATUS_CHANGES,
    SUPPRESSIONS,
    TAGS,
    TEMPLATES,
)
from gateway.storage.schema.people import ADDRESSES, FORGOTTEN, USERS
from gateway.storage.schema.preferences import PREFERENCES
from gateway.storage.schema.providers import PROVIDER_REPORTS, PROVIDER_SWITCHES
from gateway.storage.schema.spending import SPENDING
from gateway.storage.schema.topics import EXPANSIONS, SUBSCRIPTIONS
from gateway.storage.schema.turns import TURNS
from gateway.storage.schema.webhooks import OUTBOX, WEBHOOKS
from gateway.storage.schema.wishes import WISHES

__all__ = [
    "ADDRESSES",
    "ATTACHMENTS",
    "ATTEMPTS",
    "AWAITING",
    "CANCELLATIONS",
    "CAPTURED",
    "COLLAPSING",
    "COUNTS",
    "DELIVERIES",
    "DIGESTS",
    "DIGEST_ITEMS",
    "ECHOES",
    "EDITED_TEMPLATES",
    "EVENTS",
    "EXPANSIONS",
    "FORGOTTEN",
    "IDEMPOTENCY",
    "INBOXES",
    "INBOX_ITEMS",
    "KEYS",
    "METADATA",
    "NOTIFICATIONS",
    "OPT_OUTS",
    "OUTBOX",
    "PACING",
    "PREFERENCES",
    "PROVIDER_REPORTS",
    "PROVIDER_SWITCHES",
    "QUEUE",
    "REQUESTS",
    "SPENDING",
    "STATUS_CHANGES",
    "SUBSCRIPTIONS",
    "SUPPRESSIONS",
    "TAGS",
    "TEMPLATES",
    "TEMPLATE_EDITS",
    "TURNS",
    "USERS",
    "WEBHOOKS",
    "WISHES",
]
