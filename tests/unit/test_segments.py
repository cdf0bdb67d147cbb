"""How many parts a text is sent and billed as, against an encoder that really cuts it into parts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.messages import Sms
from postroom.segments import GSM7_BASIC, GSM7_EXTENSION, Segments, count_segments, is_gsm7

# 3GPP TS 23.038 section 6.2.1, row by row as Unicode code points; 0x1B is the escape to the extension table.
TS_23_038 = [
    *(0x40, 0xA3, 0x24, 0xA5, 0xE8, 0xE9, 0xF9, 0xEC, 0xF2, 0xC7, 0x0A, 0xD8, 0xF8, 0x0D, 0xC5, 0xE5),
    *(0x394, 0x5F, 0x3A6, 0x393, 0x39B, 0x3A9, 0x3A0, 0x3A8, 0x3A3, 0x398, 0x39E, None, 0xC6, 0xE6, 0xDF, 0xC9),
    *(0x20, 0x21, 0x22, 0x23, 0xA4, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x2B, 0x2C, 0x2D, 0x2E, 0x2F),
    *range(0x30, 0x40),
    *(0xA1, *range(0x41, 0x50)),
    *(*range(0x50, 0x5B), 0xC4, 0xD6, 0xD1, 0xDC, 0xA7),
    *(0xBF, *range(0x61, 0x70)),
    *(*range(0x70, 0x7B), 0xE4, 0xF6, 0xF1, 0xFC, 0xE0),
]
# Section 6.2.1.1: code in the extension table -> code point.
EXTENSION = {0x0A: 0x0C, 0x14: 0x5E, 0x28: 0x7B, 0x29: 0x7D, 0x2F: 0x5C, 0x3C: 0x5B, 0x3D: 0x7E, 0x3E: 0x5D, 0x40: 0x7C}
EXTENSION[0x65] = 0x20AC

BASIC_CODES = {chr(point): code for code, point in enumerate(TS_23_038) if point is not None}
EXTENSION_CODES = {chr(point): code for code, point in EXTENSION.items()}


def cut(text: str) -> tuple[Any, ...]:
    """Encode `text` and cut it into parts, as a gateway does: the parts' units, and the alphabet."""
    if all(c in BASIC_CODES or c in EXTENSION_CODES for c in text):
        atoms: list[list[Any]] = [[BASIC_CODES[c]] if c in BASIC_CODES else [0x1B, EXTENSION_CODES[c]] for c in text]
        single, part, alphabet = 160, 153, "gsm7"
    else:
        encoded = [c.encode("utf-16-be", "surrogatepass") for c in text]
        atoms = [[u[i : i + 2] for i in range(0, len(u), 2)] for u in encoded]
        single, part, alphabet = 70, 67, "ucs2"
    whole = [unit for atom in atoms for unit in atom]
    if len(whole) <= single:
        return alphabet, [whole]
    parts = []
    while atoms:
        current: list[Any] = []
        while atoms and len(current) + len(atoms[0]) <= part:
            current += atoms.pop(0)
        parts.append(current)
    return alphabet, parts


def test_the_alphabet_is_the_table_of_the_standard() -> None:
    assert len(TS_23_038) == 128
    assert set(GSM7_BASIC) == set(BASIC_CODES)
    assert set(GSM7_EXTENSION) == set(EXTENSION_CODES)


@pytest.mark.parametrize("character", [*BASIC_CODES, *EXTENSION_CODES], ids=ascii)
def test_each_character_of_the_table_keeps_a_text_in_seven_bits(character: str) -> None:
    width = 2 if character in EXTENSION_CODES else 1
    assert count_segments(character) == Segments("gsm7", width, 1, 160)


@pytest.mark.parametrize("character", ["ç", "Á", "`", "\t", "’", "–", "\xa0", "е", "😀"], ids=ascii)
def test_a_character_outside_the_table_takes_sixteen_bits(character: str) -> None:
    assert not is_gsm7(character)
    assert count_segments(f"Hello{character}").encoding == "ucs2"


@pytest.mark.parametrize(
    ("text", "encoding", "units", "count"),
    [
        ("", "gsm7", 0, 1),
        ("a" * 160, "gsm7", 160, 1),
        ("a" * 161, "gsm7", 161, 2),
        ("a" * 306, "gsm7", 306, 2),
        ("a" * 307, "gsm7", 307, 3),
        ("€" * 80, "gsm7", 160, 1),
        ("€" * 81, "gsm7", 162, 2),
        ("a" * 152 + "€" + "a" * 152, "gsm7", 306, 3),
        ("a" * 151 + "€" + "a" * 153, "gsm7", 306, 2),
        ("€" * 153, "gsm7", 306, 3),
        ("я" * 70, "ucs2", 70, 1),
        ("я" * 71, "ucs2", 71, 2),
        ("я" * 134, "ucs2", 134, 2),
        ("я" * 135, "ucs2", 135, 3),
        ("я" * 66 + "😀" + "я" * 66, "ucs2", 134, 3),
        ("я" * 65 + "😀" + "я" * 67, "ucs2", 134, 2),
        ("😀" * 35, "ucs2", 70, 1),
        ("😀" * 36, "ucs2", 72, 2),
        ("€" * 71 + "я", "ucs2", 72, 2),
        ("e\u0301" * 35, "ucs2", 70, 1),
    ],
    ids=lambda value: None if isinstance(value, str) and len(value) > 10 else str(value),
)
def test_the_count_at_the_edges(text: str, encoding: str, units: int, count: int) -> None:
    segments = count_segments(text)
    assert (segments.encoding, segments.units, segments.count) == (encoding, units, count)


gsm7 = st.text(st.sampled_from([*BASIC_CODES, *EXTENSION_CODES]), max_size=700)
edges = st.integers(0, 3).flatmap(
    lambda off: st.sampled_from("€я😀").map(lambda c: "a" * (150 + off) + c + "a" * (150 + off))
)


@given(gsm7 | st.text(max_size=300) | st.text("aя😀€[", max_size=500) | edges)
def test_the_count_equals_that_of_an_encoder_that_cuts(text: str) -> None:
    alphabet, parts = cut(text)
    segments = count_segments(text)
    assert (segments.encoding, segments.count) == (alphabet, len(parts))
    assert segments.units == sum(map(len, parts))


@given(gsm7, gsm7)
def test_more_text_never_takes_fewer_parts(text: str, more: str) -> None:
    assert count_segments(text + more).count >= count_segments(text).count


def test_a_message_knows_its_segments() -> None:
    assert Sms(to="+447700900123", body="я" * 71).segments.count == 2
