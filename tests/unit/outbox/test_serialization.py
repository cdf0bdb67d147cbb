"""What is written into the outbox is what comes out of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.addresses import Address
from postroom.errors import OutboxError
from postroom.messages import Attachment, Email, Message, Sms
from postroom.outbox.serialization import LARGE, PIECE, contents_of, dump_message, left_out, load_message

lines = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
texts = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
moments = st.none() | st.just(datetime(2040, 1, 2, 3, 4, 5, 678901, tzinfo=UTC))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | lines,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(lines, inner, max_size=3),
    max_leaves=8,
)
shared = {
    "send_at": moments,
    "priority": st.sampled_from(["high", "normal", "low"]),
    "category": st.sampled_from(["transactional", "marketing"]),
    "provider": st.none() | st.just("careful"),
    "provider_options": st.dictionaries(lines, json_values, max_size=3),
    "options": st.dictionaries(st.sampled_from(["twilio_sid", "key"]), lines, max_size=2),
}
addresses = st.builds(
    Address, email=st.sampled_from(["ann@example.org", "jürgen@bücher.example", "o'neil@example.org"]), name=lines
)
attachments = st.builds(
    Attachment,
    filename=st.sampled_from(["a.txt", "bild ü.png", "x"]),
    content=st.binary(max_size=40),
    inline=st.booleans(),
)
emails = st.builds(
    Email,
    to=st.lists(addresses, min_size=1, max_size=3),
    cc=st.lists(addresses, max_size=2),
    from_=st.none() | addresses,
    from_name=st.none() | lines,
    reply_to=st.lists(addresses, max_size=2),
    subject=lines,
    text=texts,
    html=texts,
    attachments=st.lists(attachments, max_size=3),
    headers=st.dictionaries(st.sampled_from(["X-A", "x-b"]), lines),
    tags=st.lists(lines, max_size=3),
    metadata=st.dictionaries(lines, lines, max_size=3),
    **shared,
)
texting = st.builds(
    Sms,
    to=st.lists(st.sampled_from(["+447700900123", "+353861234567"]), min_size=1, max_size=2, unique=True),
    from_=st.none() | lines,
    body=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80),
    media=st.lists(st.just("https://example.org/a.png"), max_size=2),
    channel=st.sampled_from(["sms", "whatsapp"]),
    **shared,
)


def there_and_back(message: Email | Sms) -> Message:
    files = contents_of(message)
    options = {name: secret.get_secret_value() for name, secret in message.options.items()}
    return load_message(message.channel_name, dump_message(message), files.__getitem__, options, "m1")


@given(emails | texting)
def test_a_message_reads_back_as_it_was_written(message: Email | Sms) -> None:
    assert there_and_back(message) == message.stamped(id="m1")


@given(emails | texting)
def test_what_reads_back_asks_the_same_of_a_transport(message: Email | Sms) -> None:
    back = there_and_back(message)
    assert (back.recipients, back.features) == (message.recipients, message.features)


@given(emails | texting)
def test_no_credential_and_no_content_of_a_file_is_in_the_text(message: Email | Sms) -> None:
    canary = {"key": "canary-credential"}
    email = isinstance(message, Email)
    more = {"attachments": (Attachment(filename="f", content=b"canary-content"),)} if email else {}
    marked = type(message)(**{**_given(message), "options": canary, **more})
    assert "canary" not in dump_message(marked)


@given(st.text(max_size=60) | json_values.map(json.dumps))
def test_a_damaged_text_is_reported_as_such(text: str) -> None:
    try:
        load_message(Email.channel_name, text, lambda _: b"", {}, "m1")
    except OutboxError as error:
        assert "m1" in str(error)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"subject": "x", "colour": 1}', '{"to": ["ann@example.org"]}', "7"])
def test_what_was_never_written_is_not_read(text: str) -> None:
    with pytest.raises(OutboxError, match="m1 cannot be read back"):
        load_message(Email.channel_name, text, lambda _: b"", {}, "m1")


LENGTHS = [0, 1, LARGE - 1, LARGE, LARGE + 1, LARGE + PIECE, 3 * PIECE - 1, 3 * PIECE, 3 * PIECE + 1]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("letter", ["x", "Ж", "😀"])
def test_texts_and_files_of_every_length_read_back_as_they_were_written(letter: str, length: int) -> None:
    text = letter * length
    files = [Attachment(filename=f"{n}.bin", content=b"\0" * (length + n)) for n in range(2)]
    for fields in (
        {"text": text},
        {"html": text, "amp": text[1:], "calendar": "x"},
        {"text": text, "attachments": files},
    ):
        message = Email(to="ann@example.org", subject="x", **fields)
        assert there_and_back(message) == message.stamped(id="m1")


def test_no_large_text_is_in_the_body_and_no_piece_of_a_content_is_large() -> None:
    content = Attachment(filename="x", content=b"x" * 5 * PIECE)
    message = Email(to="ann@example.org", text="Ж" * 5 * PIECE, html="short", attachments=[content])
    assert len(dump_message(message)) < 1000
    pieces = contents_of(message)
    assert max(map(len, pieces)) <= 2 * PIECE
    assert sum(map(len, pieces)) == 15 * PIECE


def test_where_contents_are_left_out_all_else_is_there() -> None:
    message = Email(to="ann@example.org", subject="plans", text="x" * 5 * PIECE)
    back = load_message(message.channel_name, dump_message(message), left_out, {}, "m1")
    assert isinstance(back, Email)
    assert (back.subject, back.recipients, back.text) == ("plans", ("ann@example.org",), "")


@pytest.mark.parametrize("contents", ['{"attachments": [1]}', '{"attachments": [], "text": 1e9}', "[]", "{}", "7"])
def test_contents_that_cannot_be_are_damage(contents: str) -> None:
    with pytest.raises(OutboxError, match="m1 cannot be read back"):
        load_message(
            Email.channel_name, f'{{"to": [["ann@example.org", ""]], "contents": {contents}}}', left_out, {}, "m1"
        )


def _given(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.model_fields_set}
