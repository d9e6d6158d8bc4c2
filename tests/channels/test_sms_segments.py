"""Counting segments, judged by smsutil; and the sizes the standards give, by hand."""

from __future__ import annotations

import pytest
import smsutil
from hypothesis import given
from hypothesis import strategies as st

from channels.contract import Reason, Rejected, SettingsFault
from channels.sms_countries import check_countries, refuse_number
from channels.sms_segments import count_segments

GSM = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡AZÄÖÑÜ§¿azäöñüà\f^{}\\[~]|€"

# smsutil takes the escape for a character of the alphabet, which nobody sends, and an empty text for UCS-2.
anything = st.text(st.characters(exclude_characters="\x1b", exclude_categories=["Cs"]), min_size=1, max_size=500)
plain = st.text(st.sampled_from(GSM), min_size=1, max_size=500)
near_the_edges = st.builds(
    lambda filler, count, rest: filler * count + rest,
    st.sampled_from(["a", "€", "я", "😀"]),
    st.integers(60, 320),
    st.text(st.sampled_from("a€я😀"), max_size=6),
)


@given(st.one_of(anything, plain, near_the_edges))
def test_segments_are_counted_as_smsutil_counts_them(text):
    judged = smsutil.split(text)
    counted = count_segments(text)
    assert counted.segments == len(judged.parts)
    assert (counted.encoding == "GSM-7") == (judged.encoding == "gsm0338")
    assert counted.units == (judged.total_bytes if counted.encoding == "GSM-7" else judged.total_bytes // 2)


@pytest.mark.parametrize(
    ("text", "encoding", "units", "segments"),
    [
        ("", "GSM-7", 0, 1),
        ("a" * 160, "GSM-7", 160, 1),
        ("a" * 161, "GSM-7", 161, 2),
        ("a" * 306, "GSM-7", 306, 2),
        ("a" * 307, "GSM-7", 307, 3),
        ("€" * 80, "GSM-7", 160, 1),
        ("€" * 81, "GSM-7", 162, 2),
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 306, 3),  # the escape may not part from its character
        ("я" * 70, "UCS-2", 70, 1),
        ("я" * 71, "UCS-2", 71, 2),
        ("я" * 134, "UCS-2", 134, 2),
        ("я" * 135, "UCS-2", 135, 3),
        ("😀" * 35, "UCS-2", 70, 1),
        ("😀" * 36, "UCS-2", 72, 2),
        ("😀" * 67, "UCS-2", 134, 3),  # 33 fill 66 of 67 units: an emoji is not cut
        ("It’s here", "UCS-2", 9, 1),  # noqa: RUF001 - the curly quote is the point
    ],
)
def test_the_sizes_are_those_of_the_standard(text, encoding, units, segments):
    counted = count_segments(text)
    assert (counted.encoding, counted.units, counted.segments) == (encoding, units, segments)


def test_a_count_reads_as_words():
    assert str(count_segments("a")) == "1 segment GSM-7"
    assert str(count_segments("я" * 71)) == "2 segments UCS-2"


@pytest.mark.parametrize(
    ("phone", "countries", "allowed"),
    [
        ("+4915112345678", None, True),
        ("+4915112345678", ("49",), True),
        ("+4915112345678", ("+49", "1"), True),
        ("+4915112345678", ("1", "43"), False),
        ("+14155550100", ("1415",), True),
        ("+18765550100", ("1415",), False),
    ],
)
def test_only_listed_calling_codes_are_written_to(phone, countries, allowed):
    refused = refuse_number(phone, countries)
    if allowed:
        assert refused is None
    else:
        assert isinstance(refused, Rejected)
        assert refused.reason is Reason.POLICY


@pytest.mark.parametrize(
    "phone", ["", "15550100001", "+0155501", "+123", "+1234567890123456", "+1555010000\u0661", "+1 555"]
)
def test_what_is_no_number_is_refused_as_an_address(phone):
    refused = refuse_number(phone, None)
    assert isinstance(refused, Rejected)
    assert refused.reason is Reason.INVALID_ADDRESS


@pytest.mark.parametrize("countries", [(), ("",), ("DE",), ("049",), ("+",), ("４９",)])  # noqa: RUF001 - wide digits
def test_what_is_no_calling_code_is_a_fault_of_the_settings(countries):
    with pytest.raises(SettingsFault):
        check_countries(countries)
