"""Redaction takes secrets out of texts, and leaves the words of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.plugin import redacted

WORDS = "try again later: the answer was lost at the latest attempt"


@given(st.text(min_size=1, max_size=3))
def test_a_letter_or_three_mangle_no_text(secret: str) -> None:
    assert redacted(WORDS, [secret]) == WORDS


@pytest.mark.parametrize("secret", ["test", "later", "answer", "attempt"])
def test_a_short_secret_is_taken_out_where_it_stands_alone_and_no_word_loses_a_part(secret: str) -> None:
    assert redacted(f"{WORDS}lateranswers; key={secret};", [secret]).endswith("lateranswers; key=***;")
    assert "latest" in redacted(WORDS, [secret])


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=40), st.text(max_size=20))
def test_a_secret_is_taken_out_wherever_it_stands(secret: str, around: str) -> None:
    assert secret not in redacted(f"{around}x{secret}x{around}", [secret]).replace("***", "")


def test_a_secret_that_holds_another_goes_as_a_whole() -> None:
    assert redacted("key=abcdefgh-ijklmnop.", ["abcdefgh", "abcdefgh-ijklmnop"]) == "key=***."


def test_a_text_is_one_line_of_300_characters() -> None:
    assert redacted("a\r\n b" + "c" * 400, []) == "a b" + "c" * 297
