"""Secrets are compared in constant time, or found by their hash: read from the code, since time itself is too noisy."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.api.authentication import Authentication
from gateway.config.settings import LimitSettings, Secret
from gateway.errors import Problem

HOUSE = Path(__file__).parents[2]
SECRET = re.compile(
    r"secret|signature|password|digest|hmac|token|credential|bootstrap|expected|hashed|\bhash_?\b|\bkey\b",
    re.IGNORECASE,
)
# What sounds like a secret and is none, as it stands in the code.
NO_SECRETS = {
    "key == CONTENT_KEY",  # a template's
    "found.key != current.key",
    "version.key == key",
    "token == self._token",  # ours with ours: whether somebody else fetched a new one meanwhile
}


def _comparisons(tree: ast.AST) -> Iterator[ast.Compare]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            yield node


def _could_be_secret(node: ast.expr) -> bool:
    """Say whether this side could hold a secret: not a constant, a length or whether it is there, and named like one."""
    if isinstance(node, ast.Constant | ast.List | ast.Tuple | ast.Set | ast.Dict):
        return False
    text = ast.unparse(node)
    return not text.startswith(("len(", "(")) and not text.endswith(" is None") and SECRET.search(text) is not None


def test_no_secret_is_compared_character_by_character():
    found = []
    for file in sorted(
        [*HOUSE.glob("channels/*.py"), *HOUSE.glob("gateway/api/*.py"), *HOUSE.glob("gateway/router/*.py")]
    ):
        for node in _comparisons(ast.parse(file.read_text())):
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Constant) for side in sides):
                continue
            if any(_could_be_secret(side) for side in sides) and ast.unparse(node) not in NO_SECRETS:
                found.append(f"{file.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


class Store:
    """Remembers what it was asked for: hashes, and never a key."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def key_by_hash(self, hash_: bytes) -> None:
        self.asked.append(hash_)


@pytest.mark.parametrize("wrong", ["b", "bootstrap-key-of-more-than-32-characterX", "X" * 41, "bootstrap", "ä" * 40])
async def test_a_key_is_looked_up_by_its_hash_however_much_of_it_is_right(wrong: str):
    store = Store()
    bootstrap = Secret("bootstrap-key-of-more-than-32-characters")
    known = Authentication(store, LimitSettings(), bootstrap)  # type: ignore[arg-type] # all that it is asked
    with pytest.raises(Problem, match="not valid") as refused:
        await known.known(f"Bearer {wrong}".encode(), 0)
    assert refused.value.type.status == 401
    assert not [asked for asked in store.asked if not isinstance(asked, bytes) or len(asked) != 32]
