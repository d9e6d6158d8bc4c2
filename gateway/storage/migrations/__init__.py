"""The history of the schema: one for both databases, each step in `versions`, never changed once released."""

from __future__ import annotations

from typing import Final

REVISIONS: Final = (
    *("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0012"),
    *("0013", "0014", "0015"),
)
"""Every revision, oldest first. Kept here so that a start needs no Alembic when nothing is to be done; a test holds it
against the files."""
