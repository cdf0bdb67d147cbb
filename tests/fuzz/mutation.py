"""Mutation of byte strings: seeded, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence

LARGEST = 200_000
"""Bytes of a case: enough for what is quadratic to take seconds."""

WORDS = (
    *(
        b'"',
        b"'",
        b"\\",
        b"\\\\",
        b"(",
        b")",
        b"<",
        b">",
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b";",
        b":",
        b"=",
        b"&",
        b"@",
        b"@@",
    ),
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\0",
        b"\t",
        b" ",
        b"\x1b[2J",
        b"%00",
        b"%",
        b"+",
        b"-",
        b"--",
        b".",
        b"\r\n.\r\n",
    ),
    *(
        b"\xff",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        "\u202e".encode(),
        "ß".encode(),
        "İ".encode(),
        b"\xef\xbb\xbf",
        b"\\ud800",
    ),
    *(b"0", b"-1", b"1e999", b"NaN", b"null", b"true", b"1" * 400, b"9" * 30, b"0x10", b"9999-12-31T23:59:59Z"),
    *(b"=?utf-8?q?=0D=0A?=", b"multipart/mixed; boundary=b", b"--b\r\n", b"Content-Type: ", b"Content-Length: 5\r\n"),
    *(b"auth_token=", b"../../etc/passwd", b"a@b.example", b"+447700900123", b"to", b"cc", b"$ref", b"__proto__"),
)


def mutated(case: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Return `case` after one to six changes; `others` are what parts may be taken from."""
    changed = bytearray(case)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at, end = sorted((rng.randint(0, len(changed)), rng.randint(0, len(changed))))
        match rng.randrange(7):
            case 0:
                changed[at:at] = rng.choice(WORDS)
            case 1:
                changed[at : min(end, at + 40)] = rng.choice(WORDS)
            case 2:
                del changed[at : min(end, at + rng.choice((1, 4, 200)))]
            case 3:
                changed[at:at] = rng.choice(WORDS) * rng.choice((2, 50, 2000))
            case 4:
                part = bytes(changed[at : min(end, at + 200)])
                changed[at:at] = part * rng.choice((1, 3, 300))
            case 5 if changed:
                place = rng.randrange(len(changed))
                changed[place] ^= 1 << rng.randrange(8)
            case _:
                other = rng.choice(others)
                begin = rng.randint(0, len(other))
                changed[at:at] = other[begin : begin + rng.choice((3, 30, 300))]
    return bytes(changed[:LARGEST])
