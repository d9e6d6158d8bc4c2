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
    r"secret|signature|password|digest|hmac|token|credential|bootstrap|expected|hashed|\bhash_?\b|api_key",
    re.IGNORECASE,
)
# What sounds like a secret and is none, as it stands in the code.
NO_SECRETS = {
    "token == self._token",  # ours with ours: whether somebody else fetched a new one meanwhile
}


def _comparisons(tree: ast.AST) -> Iterator[ast.Compare]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            yield node


def _is_open(node: ast.expr) -> bool:
    """Say whether a side is a constant, a length, or only whether something is there."""
    text = ast.unparse(node)
    return isinstance(node, ast.Constant) or text.startswith("len(") or text.endswith(" is None")


def test_no_secret_is_compared_character_by_character():
    found: list[str] = []
    files = [file for folder in ("channels", "gateway/api", "gateway/router") for file in (HOUSE / folder).glob("*.py")]
    files.remove(HOUSE / "channels/testing.py")  # expected outcomes, not secrets
    assert len(files) > 50
    for file in sorted(files):
        for node in _comparisons(ast.parse(file.read_text())):
            sides = [node.left, *node.comparators]
            sounds = any(SECRET.search(ast.unparse(side)) for side in sides)
            if sounds and not any(_is_open(side) for side in sides) and ast.unparse(node) not in NO_SECRETS:
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
