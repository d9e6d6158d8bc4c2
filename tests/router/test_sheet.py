"""The preference page's content: what comes back is what was chosen, and nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.settings import CategorySettings, ChannelSettings, QuietHoursSettings, Settings
from gateway.model.preferences import EVERY, Choice, Choices
from gateway.router.preferences import Preferences
from gateway.router.rules import Rules
from gateway.router.sheet import Sheet, address_sheet, as_choices, changes, nothing_optional, person_sheet
from gateway.storage.contract import AddressRow, PreferencesRow, UserRow

RULES = Rules.build(
    Settings(
        channels={"email": ChannelSettings(), "sms": ChannelSettings(), "slack": ChannelSettings()},
        categories={
            "default": CategorySettings(),
            "marketing": CategorySettings(unsubscribe=True, default=False),
            "news": CategorySettings(unsubscribe=True),
            "alerts": CategorySettings(locked={"sms": False, "email": True}),
            "codes": CategorySettings(required=True, channels=["sms"]),
        },
        quiet_hours=QuietHoursSettings(start="22:00", end="07:00"),
    )
)
CELLS = [(category, channel) for category in ("default", "marketing", "news") for channel in ("email", "sms")]
MASTERS = [(EVERY, "email"), (EVERY, "sms")]
WHOLE = [(category, EVERY) for category in ("default", "marketing", "news")]
some_choices = st.dictionaries(st.sampled_from([*CELLS, *MASTERS, *WHOLE]), st.booleans())


def row(cells: Mapping[Choice, bool]) -> PreferencesRow:

    addresses = tuple(
        AddressRow(
            id=UUID(int=1),
            channel=channel,
            address=address,
            key=address,
            label=None,
            profile=True,
            created_at=0,
            retired_at=retired,
            retired_reason=None,
        )
        for channel, address, retired in (
            ("email", "ada@example.com", None),
            ("sms", "+15550109999", None),
            ("slack", "#old", 1),
        )
    )
    user = UserRow(
        id="42",
        name=None,
        locale=None,
        timezone="Europe/Vienna",
        attributes=b"{}",
        created_at=0,
        updated_at=0,
        addresses=addresses,
        choices=Choices(cells=cells),
    )
    return PreferencesRow(user=user, cells=(), quiet_source=None, quiet_at=None, opt_outs=frozenset())


def sheet(cells: Mapping[Choice, bool], only: str | None = None) -> Sheet:
    return person_sheet(RULES, row(cells), Preferences(rules=RULES).resolved(row(cells)), only=only)


def shown(one: Sheet) -> dict[Choice, bool]:
    return {toggle.choice: toggle.on for toggle in (*one.optional, *one.channels)}


def after(cells: Mapping[Choice, bool], said: Mapping[Choice, bool | None]) -> dict[Choice, bool]:
    return {choice: yes for choice, yes in {**cells, **said}.items() if yes is not None}


def save(cells: Mapping[Choice, bool], wanted: Mapping[Choice, bool]) -> dict[Choice, bool]:
    """Fill the form in so that it shows `wanted`, and save it."""
    before = shown(sheet(cells))
    now = {**before, **wanted}
    was = {choice for choice, on in before.items() if on}
    turned = changes(sheet(cells), was, before.keys() - was, {choice for choice, on in now.items() if on})
    return after(cells, as_choices(turned, cells))


@given(some_choices, st.dictionaries(st.sampled_from(CELLS), st.booleans()))
def test_the_page_then_shows_what_was_chosen_and_nothing_else_changed(
    cells: dict[Choice, bool], wanted: dict[Choice, bool]
):
    before = shown(sheet(cells))
    kept = save(cells, wanted)
    assert shown(sheet(kept)) == {**before, **wanted}
    turned = {choice for choice, on in wanted.items() if before[choice] is not on}
    assert {choice: yes for choice, yes in kept.items() if choice not in turned} == {
        choice: yes for choice, yes in cells.items() if choice not in turned
    }


@given(some_choices)
def test_a_form_that_comes_back_as_it_was_changes_nothing(cells: dict[Choice, bool]):
    assert save(cells, {}) == cells


@given(some_choices, st.sampled_from(["email", "sms"]))
def test_a_channel_turned_off_is_off_and_the_other_as_before(cells: dict[Choice, bool], channel: str):
    before = shown(sheet({**cells, (EVERY, channel): True}))
    now = shown(sheet(save({**cells, (EVERY, channel): True}, {(EVERY, channel): False})))
    for choice, on in now.items():
        assert on is (False if choice[1] == channel else before[choice])


@given(some_choices)
def test_unsubscribing_from_everything_leaves_nothing_optional_on(cells: dict[Choice, bool]):
    kept = after(cells, nothing_optional(RULES, sheet(cells), cells, only=None))
    assert not any(toggle.on for toggle in sheet(kept).optional)
    required = [section for section in sheet(kept).sections if section.required]
    assert [[toggle.on for toggle in section.toggles] for section in required] == [[True]]


@given(some_choices)
def test_a_link_of_one_channel_turns_nothing_on_another(cells: dict[Choice, bool]):
    narrow = sheet(cells, only="email")
    assert {toggle.channel for toggle in narrow.optional} == {"email"}
    assert (narrow.channels, narrow.quiet) == ((), None)
    said = nothing_optional(RULES, narrow, cells, only="email")
    assert {channel for _, channel in said} == {"email"}


def test_a_page_shows_live_channels_locked_cells_as_fixed_and_the_default_last():
    one = sheet({})
    assert [section.category for section in one.sections] == ["marketing", "news", "alerts", "codes", "default"]
    alerts = {toggle.channel: (toggle.on, toggle.fixed) for toggle in one.sections[2].toggles}
    assert alerts == {"email": (True, True), "sms": (False, True)}
    assert [toggle.channel for toggle in one.sections[3].toggles] == ["sms"]
    assert one.quiet is not None
    assert one.quiet.zone == "Europe/Vienna"
    assert one.quiet.hours == RULES.quiet.default


def test_an_address_is_shown_what_it_can_leave_and_not_what_needs_a_persons_yes():
    one = address_sheet(RULES, "email", {"news"})
    assert [(section.category, [toggle.on for toggle in section.toggles]) for section in one.sections] == [
        ("news", [False])
    ]
    assert [section.category for section in address_sheet(RULES, "sms", ()).sections] == ["news", "codes"]


def test_an_inbox_needs_no_address_and_is_shown_where_a_category_names_it():
    named = msgspec.structs.replace(RULES.categories["news"], channels=("email", "inbox"))
    rules = msgspec.structs.replace(RULES, categories={**RULES.categories, "news": named})
    one = person_sheet(rules, row({}), Preferences(rules=rules).resolved(row({})), only=None)
    assert [section.category for section in one.sections if section.toggles[-1].channel == "inbox"] == ["news"]
    assert "inbox" in {toggle.channel for toggle in one.channels}
