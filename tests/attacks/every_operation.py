"""Every operation there is, read from the code: what is added later is attacked without a word here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.api import preferences_page, unsubscribe
from gateway.api.app import operations
from gateway.api.operation import Operation
from gateway.api.pages import page_operations
from gateway.api.people_pages import Pages

__all__ = ["EVERY", "PARAMETER", "path_of"]

_PEOPLE = Pages()
EVERY: tuple[Operation, ...] = (
    *operations(),
    *page_operations(),
    *unsubscribe.page_operations(_PEOPLE),
    *preferences_page.page_operations(_PEOPLE),
)
PARAMETER = re.compile(r"{(\w+)}")
_NOWHERE = {"id": "ntf_00000000000000000000000000000000", "channel": "email", "address": "ada@example.com"}


def path_of(operation: Operation, values: Mapping[str, str] | None = None) -> str:
    """Fill in the parameters of a path: with `values`, else with what leads nowhere."""
    given = {**_NOWHERE, **(values or {})}
    return PARAMETER.sub(lambda found: given.get(found[1], "nothing-of-the-kind"), operation.path)
