from __future__ import annotations

import pytest

from gateway.render.renderer import RenderFailed


@pytest.fixture
def show(make, render):
    def call(expression, value=None, **settings):
        files = {
            "t/template.toml": "[variables.x]\n",
            "t/en/title.txt": "{{ " + expression + " }}",
            "t/en/body.md": "{{ x }}",
        }
        files |= {"t/de/title.txt": files["t/en/title.txt"], "t/de/body.md": "{{ x }}"}
        return render(make(files), "t", {"x": value}, channel="sms", **settings).subject

    return call


@pytest.mark.parametrize(
    ("expression", "value", "locale", "shown"),
    [
        ("x|money('EUR')", "1234.5", "en", "€1,234.50"),
        ("x|money('EUR')", 1234.5, "de", "1.234,50 €"),
        ("x|money('EUR')", "1234.5", "de-AT", "€ 1.234,50"),
        ("x|currency('JPY')", 100, "en", "¥100"),
        ("x|number", 1234567.5, "de", "1.234.567,5"),
        ("x|number(2)", 2, "en", "2.00"),
        ("x|number(0)", "2.7", "en", "3"),
        ("x|number", "0.1", "fr", "0.1"),
        ("x|date", "2026-12-03", "en", "Dec 3, 2026"),
        ("x|date('full')", "2026-12-03", "de", "Donnerstag, 3. Dezember 2026"),
        ("x|date('short')", "2026-12-03T10:00:00Z", "en-GB", "03/12/2026"),
        ("x|datetime", "2026-12-03T10:05:33Z", "en", "Dec 3, 2026, 10:05 AM"),
        ("x|datetime('long', zone=true)", "2026-12-03T10:05:33+05:30", "de", "3. Dezember 2026, 10:05 UTC+5:30"),
        ("x|time", "2026-12-03T22:05:33", "de", "22:05"),
    ],
)
def test_values_are_written_as_the_reader_writes_them(show, expression, value, locale, shown):
    assert show(expression, value, locale=locale) == shown


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("Europe/Vienna", "Jan 1, 2027, 12:30 AM UTC+1"),
        ("America/New_York", "Dec 31, 2026, 6:30 PM EST"),
        ("Nowhere/Else", "Dec 31, 2026, 11:30 PM UTC"),
        ("../../etc/passwd", "Dec 31, 2026, 11:30 PM UTC"),
        (None, "Dec 31, 2026, 11:30 PM UTC"),
    ],
)
def test_moments_are_shown_in_the_readers_zone(show, zone, shown):
    assert show("x|datetime(zone=true)", "2026-12-31T23:30:00Z", timezone=zone) == shown


def test_the_day_follows_the_zone_too(show):
    assert show("x|date", "2026-12-31T23:30:00Z", timezone="Europe/Vienna") == "Jan 1, 2027"


def test_equal_values_of_different_types_are_not_confused(show):
    assert show("1|number ~ ' ' ~ 1.5|number ~ ' ' ~ '1.50'|number(2) ~ ' ' ~ 1|number(2)") == "1 1.5 1.50 1.00"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("x|money('EUR')", "a lot"),
        ("x|money('EUR')", True),
        ("x|money('EUR')", "NaN"),
        ("x|money('EUR')", "Infinity"),
        ("x|money('EUR')", "9" * 100),
        ("x|money('EUR')", None),
        ("x|money('euro')", 1),
        ("x|money(x)", 1),
        ("x|date", "tomorrow"),
        ("x|date", 5),
        ("x|date('huge')", "2026-12-03"),
        ("x|datetime", [1]),
    ],
)
def test_what_cannot_be_written_fails_with_a_reason(show, expression, value):
    with pytest.raises(RenderFailed, match="the filter"):
        show(expression, value)
