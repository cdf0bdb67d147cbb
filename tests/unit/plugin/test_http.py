"""A form holds what was put into it."""

from __future__ import annotations

from urllib.parse import parse_qsl

from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.plugin.http import form_body

texts = st.text(st.characters(codec="utf-8"))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["To", "Body", "From"]), texts), st.lists(texts, max_size=3))
def test_any_text_survives_the_form(fields: dict[str, str], media: list[str]) -> None:
    encoded = form_body({**fields, "MediaUrl": media})
    assert encoded.isascii()
    assert parse_qsl(encoded.decode(), keep_blank_values=True) == [
        *fields.items(),
        *(("MediaUrl", url) for url in media),
    ]
