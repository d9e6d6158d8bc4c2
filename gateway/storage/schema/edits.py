"""Templates edited through the API: their versions, and which one of each is published.

`template_versions` beside them holds the text of every version, edited or from a folder.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, PrimaryKeyConstraint, Table, Text

from gateway.storage.schema.columns import METADATA, may, must

EDITED_TEMPLATES: Final = Table(
    "edited_templates",
    METADATA,
    must("project", Text),
    must("key", Text),
    must("last_number", BigInteger),
    may("published_number", BigInteger),
    may("published_version", Text),
    must("changed_at", BigInteger),
    PrimaryKeyConstraint("project", "key"),
)

TEMPLATE_EDITS: Final = Table(
    "template_edits",
    METADATA,
    must("project", Text),
    must("key", Text),
    must("number", BigInteger),
    must("version", Text),
    must("created_at", BigInteger),
    may("published_at", BigInteger),
    PrimaryKeyConstraint("project", "key", "number"),
)
