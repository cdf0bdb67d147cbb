"""Segments: the parts an SMS text is sent and billed as, and how many there are.

Alphabets and limits: 3GPP TS 23.038 section 6.2.1 (GSM 7-bit default alphabet and its extension table) and
3GPP TS 23.040 section 9.2.3.24 (six octets of concatenation header leave 153 septets or 67 UCS-2 units).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GSM7_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_EXTENSION = frozenset("\f^{}\\[~]|€")
"""Characters that take two septets: an escape and a code, which may not be torn apart."""

_LIMITS = {"gsm7": (160, 153), "ucs2": (70, 67)}


@dataclass(frozen=True, slots=True)
class Segments:
    """`units` are septets (gsm7) or 16-bit units (ucs2); `per_segment` is how many fit in one part."""

    encoding: Literal["gsm7", "ucs2"]
    units: int
    count: int
    per_segment: int


def count_segments(text: str) -> Segments:
    """Count the parts of `text`. An empty text is one part of no units."""
    encoding: Literal["gsm7", "ucs2"] = "gsm7" if is_gsm7(text) else "ucs2"
    widths = _widths(text, encoding)
    units = sum(widths)
    single, part = _LIMITS[encoding]
    if units <= single:
        return Segments(encoding, units, 1, single)
    return Segments(encoding, units, _filled_parts(widths, part), part)


def is_gsm7(text: str) -> bool:
    """Whether every character is in the GSM 7-bit alphabet or its extension table."""
    return GSM7_BASIC.issuperset(text) or (GSM7_BASIC | GSM7_EXTENSION).issuperset(text)


def _widths(text: str, encoding: str) -> list[int]:
    if encoding == "gsm7":
        return [2 if character in GSM7_EXTENSION else 1 for character in text]
    return [2 if character > "\uffff" else 1 for character in text]


def _filled_parts(widths: list[int], size: int) -> int:
    """Fill parts one character at a time, since a pair that does not fit moves to the next part whole."""
    parts, used = 1, 0
    for width in widths:
        if used + width > size:
            parts, used = parts + 1, 0
        used += width
    return parts
