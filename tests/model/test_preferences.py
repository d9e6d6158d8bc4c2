"""The truth table of preferences, against a plain one written from the contract's sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.preferences import EVERY, Cell, Choices, Source, Terms, named_yes, resolve, words

SMS = (EVERY, "sms")
NEWS = ("news", EVERY)
NEWS_SMS = ("news", "sms")

maybe = st.none() | st.booleans()


def cell(cells: dict[tuple[str, str], bool] | None = None, *, opted_out: bool = False, **terms: object) -> Cell:
    wanted = Terms(name="news", **terms)  # type: ignore[arg-type]
    return resolve(Choices(cells=cells or {}), wanted, "sms", opted_out=opted_out)


@pytest.mark.parametrize(
    ("found", "allowed", "source"),
    [
        (cell(), True, "default"),
        (cell({SMS: False}), False, "channel"),
        (cell({SMS: True}), True, "channel"),
        (cell({NEWS: False}), False, "category"),
        (cell({NEWS: False, SMS: True}), False, "category"),
        (cell({NEWS: True, SMS: False}), False, "channel"),
        (cell({NEWS: True, SMS: True}), True, "category"),
        (cell({NEWS: False, SMS: False, NEWS_SMS: True}), True, "category_channel"),
        (cell({NEWS: True, SMS: True, NEWS_SMS: False}), False, "category_channel"),
        (cell({("other", "sms"): False, ("other", EVERY): False, (EVERY, "email"): False}), True, "default"),
        (cell({NEWS_SMS: True}, opted_out=True), False, "opt_out"),
        (cell({NEWS_SMS: False}, opted_out=True, required=True), True, "required"),
        (cell(required=True, locked={"sms": False}), False, "lock"),
        (cell({NEWS_SMS: False}, opted_out=True, locked={"sms": True}), True, "lock"),
        (cell(locked={"email": False}), True, "default"),
        (cell(default=False), False, "category_default"),
        (cell({SMS: True}, default=False), False, "category_default"),
        (cell({NEWS: True}, default=False), True, "category"),
        (cell({NEWS_SMS: True}, default=False), True, "category_channel"),
        (cell(default={"sms": False}), False, "category_default"),
        (cell(default={"sms": True}), True, "category_default"),
        (cell(default={"email": False}), True, "default"),
    ],
)
def test_the_rows_of_the_table(found: Cell, allowed: bool, source: str):
    assert found == Cell(allowed, Source(source))
    assert words(found).startswith(f"{source}: ")


def by_the_contract(
    locked: bool | None,
    required: bool,
    left: bool,
    both: bool | None,
    of_category: bool | None,
    of_channel: bool | None,
    default: bool | None,
) -> bool:
    """Say what API.md says, level by level: at each, a no wins, a yes decides, silence passes on."""
    if locked is not None:
        return locked
    if required:
        return True
    about_the_cell = [False if left else None, both]
    about_a_half = [of_category, of_channel if of_channel is False or default is not False else None]
    for level in (about_the_cell, about_a_half, [default]):
        if False in level:
            return False
        if True in level:
            return True
    return True


@given(maybe, st.booleans(), st.booleans(), maybe, maybe, maybe, maybe, st.booleans())
def test_every_combination_follows_the_contract(
    locked: bool | None,
    required: bool,
    left: bool,
    both: bool | None,
    of_category: bool | None,
    of_channel: bool | None,
    default: bool | None,
    flat: bool,
):
    said = {NEWS_SMS: both, NEWS: of_category, SMS: of_channel}
    terms = Terms(
        name="news",
        required=required,
        locked={} if locked is None else {"sms": locked},
        default=default is not False if flat else {} if default is None else {"sms": default},
    )
    cells = {key: value for key, value in said.items() if value is not None}
    found = resolve(Choices(cells=cells), terms, "sms", opted_out=left)
    assert found.allowed == by_the_contract(locked, required, left, both, of_category, of_channel, default)


@given(st.dictionaries(st.sampled_from([NEWS, SMS, NEWS_SMS]), st.booleans()), st.booleans())
def test_one_more_no_never_opens_a_cell_and_one_more_yes_of_the_same_kind_never_closes_it(
    cells: dict[tuple[str, str], bool], default: bool
):
    before = cell(cells, default=default).allowed
    for key in (NEWS, SMS, NEWS_SMS):
        assert cell({**cells, key: False}, default=default).allowed <= before or cells.get(NEWS_SMS) is not None
        if cells.get(key) is False:
            assert cell({**cells, key: True}, default=default).allowed >= before


@pytest.mark.parametrize(
    ("cells", "asked"),
    [
        ({}, False),
        ({SMS: True}, False),
        ({NEWS: True}, True),
        ({NEWS: True, NEWS_SMS: False}, False),
        ({NEWS_SMS: True}, True),
        ({NEWS: False, NEWS_SMS: True}, True),
    ],
)
def test_a_yes_that_names_the_category(cells: dict[tuple[str, str], bool], asked: bool):
    assert named_yes(cells, "news", "sms") is asked
