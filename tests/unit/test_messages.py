"""The two messages: checked when they are built, frozen, exact in JSON, quiet about secrets."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import string
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from postroom.addresses import Address
from postroom.errors import InvalidAddress, MessageError
from postroom.messages import LARGEST_EMAIL, MODELLED_HEADERS, Attachment, Email, Sms, new_id
from postroom.plugin import EMAIL_FEATURES, SMS_FEATURES

NUMBER = "+442079460958"
SOON = datetime(2030, 1, 1, tzinfo=UTC)
BREAKS = ["\n", "\r", "\0", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\ud800"]


def email(**fields: Any) -> Email:
    return Email(**{"to": "ann@example.org", **fields})


def sms(**fields: Any) -> Sms:
    return Sms(**{"to": NUMBER, "body": "Hi", **fields})


def refusal(build: Callable[..., Any] | type[Any], **fields: Any) -> str:
    with pytest.raises(MessageError) as caught:
        build(**fields)
    return str(caught.value)


# Recipients and senders


@pytest.mark.parametrize(
    "to", ["ann@example.org", ["ann@example.org"], ("ann@example.org",), Address(email="ann@example.org")]
)
def test_one_recipient_needs_no_list(to: Any) -> None:
    assert email(to=to).to == (Address(email="ann@example.org"),)


def test_a_dict_is_an_address() -> None:
    assert email(to={"email": "ann@example.org", "name": "Ann"}).to[0].name == "Ann"


@pytest.mark.parametrize("field", ["to", "cc", "bcc"])
def test_any_kind_of_recipient_is_enough(field: str) -> None:
    assert Email(**{field: "ann@example.org"}).recipients == ("ann@example.org",)


def test_an_email_to_nobody_is_refused() -> None:
    assert refusal(Email) == "Email cannot be sent: needs at least one recipient in to, cc or bcc"


def test_an_sms_to_nobody_is_refused() -> None:
    assert refusal(sms, to=[]) == "Sms cannot be sent: needs at least one recipient in to"


@pytest.mark.parametrize("name", ["from", "from_"])
def test_the_sender_has_two_spellings(name: str) -> None:
    assert email(**{name: "bob@example.com"}).from_ == Address(email="bob@example.com")
    assert sms(**{name: "ACME"}).from_ == "ACME"


def test_recipients_are_in_order_and_not_repeated() -> None:
    message = email(to=["b@example.org", "a@example.org"], cc="b@example.org", bcc="c@example.org")
    assert message.recipients == ("b@example.org", "a@example.org", "c@example.org")
    assert sms(to=[NUMBER, "+44 20 7946 0958", "+442079460959"]).recipients == (NUMBER, "+442079460959")


def test_an_email_for_some_recipients_still_names_all_of_them() -> None:
    whole = email(to=["a@example.org", "b@example.org"], bcc="c@example.org", subject="Hi")
    part = whole.for_recipients(["c@example.org", "a@example.org", "stranger@example.org"])
    assert part.recipients == ("a@example.org", "c@example.org")
    assert (part.to, part.bcc, part.subject) == (whole.to, whole.bcc, "Hi")
    assert whole.recipients == ("a@example.org", "b@example.org", "c@example.org")


@pytest.mark.parametrize("field", ["to", "cc", "bcc"])
def test_a_copy_for_somebody_else_is_for_them_alone(field: str) -> None:
    original = Email(**{field: "ann@example.org"})
    copied = original.model_copy(update={field: (Address(email="bob@example.org"),)})
    assert (original.recipients, copied.recipients) == (("ann@example.org",), ("bob@example.org",))
    assert sms().model_copy(update={"to": ("+442079460959",)}).recipients == ("+442079460959",)


def test_a_copy_of_a_message_for_some_stays_for_those() -> None:
    part = email(to=["a@example.org", "b@example.org"]).for_recipients(["b@example.org"])
    assert part.model_copy(update={"subject": "Other"}).recipients == ("b@example.org",)


def test_a_copy_asks_for_what_its_own_fields_need() -> None:
    plain = email(text="x")
    assert plain.features == frozenset()
    assert plain.model_copy(update={"html": "<p>x"}).features == {"html"}


def test_an_sms_for_some_recipients_names_only_them() -> None:
    part = sms(to=[NUMBER, "+442079460959"]).for_recipients(["+442079460959"])
    assert part.to == part.recipients == ("+442079460959",)


def test_a_whatsapp_prefix_chooses_the_channel() -> None:
    message = sms(to=f"whatsapp:{NUMBER}")
    assert (message.to, message.channel) == ((NUMBER,), "whatsapp")


# What is refused, and in which words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"to": None}, "to: must be a list, not NoneType"),
        ({"to": 5}, "to: must be a list, not int"),
        ({"to": [None]}, "to.0: an address is text such as 'Ann <ann@example.org>', not NoneType"),
        (
            {"to": ["a@example.org", "bad"]},
            "to.1: 'bad' is not an e-mail address: An email address must have an @-sign.",
        ),
        ({"to": {}}, "to.0.email: is missing"),
        ({"subject": None}, "subject: must be text, not NoneType"),
        ({"text": 5}, "text: must be text, not int"),
        ({"html": "\ud800"}, "html: must not contain half a character (a lone surrogate)"),
        ({"sbject": "x"}, "sbject: is not a field of Email; did you mean 'subject'?"),
        ({"zzz": "x"}, "zzz: is not a field of Email"),
        ({"headers": {"X": None}}, "headers.X: must be text, not NoneType"),
        ({"headers": {"a b": "c"}}, "headers: 'a b' is not a header name"),
        ({"headers": "X: y"}, "headers: must be a dict, not str"),
        ({"tags": "welcome"}, "tags: must be a list, not str"),
        ({"send_at": datetime(2030, 1, 1)}, "send_at: needs a time zone, as datetime.now(UTC) has"),
        ({"expires_at": "2030-01-01T00:00"}, "expires_at: needs a time zone, as datetime.now(UTC) has"),
        ({"send_at": SOON, "expires_at": SOON}, "expires_at must be later than send_at"),
        ({"provider": ""}, "provider: must not be empty"),
        ({"idempotency_key": "k" * 256}, "idempotency_key: must not be longer than 255"),
        ({"id": "../etc"}, "id: may only have letters, digits, dots, dashes and underscores"),
        ({"message_id": "x"}, "message_id: must look like <unique@domain>"),
        ({"attachments": ["/etc/passwd"]}, "attachments.0: must be Attachment or a dict of its fields, not str"),
        ({"attachments": [{"filename": "a"}]}, "attachments.0: content: is missing"),
        ({"merge_data": {"z@example.org": {}}}, "merge_data names 'z@example.org', which is not a recipient"),
        (
            {"provider_options": {"a": float("nan")}},
            "provider_options: must not contain NaN or infinity, which JSON cannot write",
        ),
        (
            {"provider_options": {"a": {"b": "\ud800"}}},
            "provider_options: must not contain half a character (a lone surrogate)",
        ),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_a_refusal_says_where_and_what(fields: dict[str, Any], words: str) -> None:
    assert refusal(email, **fields) == f"Email cannot be sent: {words}"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"to": None}, "to: must be a list, not NoneType"),
        ({"to": [None]}, "to.0: must be text, not NoneType"),
        ({"to": "020 7946 0958"}, "to.0: '020 7946 0958' is not in international form; write it like +442079460958"),
        ({"body": ""}, "needs a body or media"),
        ({"body": None}, "body: must be text, not NoneType"),
        ({"body": "\0"}, "body: must not contain NUL"),
        ({"body": "x" * 100_001}, "body: must not be longer than 100000"),
        ({"media": "ftp://example.org/a.png"}, "media: 'ftp://example.org/a.png' is not an http(s) URL"),
        ({"subject": "x"}, "subject: is not a field of Sms"),
        ({"from_": "A" * 65}, "from_: must not be longer than 64"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_a_refused_sms_says_where_and_what(fields: dict[str, Any], words: str) -> None:
    assert refusal(sms, **fields) == f"Sms cannot be sent: {words}"


def test_everything_wrong_is_told_at_once() -> None:
    text = refusal(email, to=["bad"], attachments=[{"filename": "", "content": b""}], subject=5)
    assert all(place in text for place in ("to.0:", "attachments.0:", "subject:"))


def test_only_wrong_addresses_make_an_invalid_address() -> None:
    with pytest.raises(InvalidAddress):
        email(to=["bad", "worse"])
    with pytest.raises(InvalidAddress):
        sms(to=["bad"])
    with pytest.raises(MessageError) as caught:
        email(to="bad", subject=5)
    assert type(caught.value) is MessageError


@pytest.mark.parametrize("value", [None, "text", 5, []])
def test_what_is_no_message_at_all_is_refused(value: Any) -> None:
    with pytest.raises(MessageError, match="must be Email or a dict of its fields"):
        Email.model_validate(value)


@given(
    st.dictionaries(
        st.sampled_from([*Email.model_fields, "from", "x"]), st.none() | st.text() | st.integers() | st.lists(st.text())
    )
)
def test_no_input_raises_anything_but_our_error(fields: dict[str, Any]) -> None:
    for cls in (Email, Sms, Attachment):
        with contextlib.suppress(MessageError):
            cls(**fields)


@pytest.mark.parametrize(
    "message", [email(), sms(), Attachment(filename="a", content=b"")], ids=lambda m: type(m).__name__
)
def test_a_message_is_frozen(message: Attachment | Email | Sms) -> None:
    field = "filename" if isinstance(message, Attachment) else "to"
    with pytest.raises(ValidationError, match="frozen"):
        setattr(message, field, "x")


@pytest.mark.parametrize("end", BREAKS, ids=ascii)
@pytest.mark.parametrize("field", ["subject", "provider", "idempotency_key", "template", "message_id", "id"])
def test_a_field_of_one_line_refuses_line_breaks(field: str, end: str) -> None:
    refusal(email, **{field: f"a{end}b"})


@pytest.mark.parametrize("end", BREAKS, ids=ascii)
def test_lists_of_lines_refuse_line_breaks_too(end: str) -> None:
    refusal(email, tags=[f"a{end}b"])
    refusal(email, headers={"X-Note": f"a{end}b"})
    refusal(email, headers={f"X{end}Note": "a"})
    refusal(sms, from_=f"a{end}b")
    refusal(sms, media=[f"https://example.org/{end}"])


# Headers


@pytest.mark.parametrize(
    "name", [*sorted(MODELLED_HEADERS), "Bcc", "BCC", "Content-Type", "content-id", "Resent-To", "Subject"]
)
def test_a_header_that_a_field_owns_is_refused(name: str) -> None:
    assert "cannot be set as a header" in refusal(email, headers={name: "x@example.org"})


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a:", "ä", "X-\n", "X" * 77])
def test_what_is_no_header_name_is_refused(name: str) -> None:
    assert "is not a header name" in refusal(email, headers={name: "x"})


def test_reply_to_and_message_id_move_from_the_headers_into_their_fields() -> None:
    message = email(headers={"reply-to": "Desk <desk@example.org>", "MESSAGE-ID": "<1@example.org>", "X-Note": "n"})
    assert message.reply_to == (Address(email="desk@example.org", name="Desk"),)
    assert message.message_id == "<1@example.org>"
    assert message.headers == {"X-Note": "n"}


def test_a_field_wins_over_the_header_of_its_name() -> None:
    assert email(reply_to="a@example.org", headers={"Reply-To": "b@example.org"}).reply_to[0].email == "a@example.org"


def test_the_callers_headers_are_left_as_they_were() -> None:
    headers = {"Reply-To": "a@example.org"}
    email(headers=headers)
    assert headers == {"Reply-To": "a@example.org"}


@pytest.mark.parametrize("text", ["1@example.org", "<1@example.org>", " <1@example.org> "])
def test_a_message_id_is_kept_in_angle_brackets(text: str) -> None:
    assert email(message_id=text).message_id == "<1@example.org>"


# Merge data


def test_merge_data_finds_its_recipient_in_any_spelling() -> None:
    message = email(to="Ann <ann@EXAMPLE.org>", merge_data={"ann@Example.ORG": {"name": "Ann"}})
    assert message.merge_data == {"ann@example.org": {"name": "Ann"}}


def test_merge_data_may_name_copies() -> None:
    assert email(bcc="b@example.org", merge_data={"b@example.org": {}}).merge_data


# Attachments


def test_the_media_type_is_guessed_from_the_name() -> None:
    assert Attachment(filename="a.pdf", content=b"").content_type == "application/pdf"
    assert Attachment(filename="a.unheard-of", content=b"").content_type == "application/octet-stream"


@pytest.mark.parametrize(
    "text", ["text/plain", "text/plain; charset=utf-8", 'text/plain;charset="utf-8";name="a b"', "text/plain; "]
)
def test_a_media_type_may_have_parameters(text: str) -> None:
    assert Attachment(filename="a", content=b"", content_type=text).content_type == text.rstrip("; ")


@pytest.mark.parametrize(
    "text", ["pdf", "text/", "/plain", "text plain", "text/plain; é=1", "text/plain; a", "t/p; a=" + "b" * 300]
)
def test_what_is_no_media_type_is_refused(text: str) -> None:
    assert "is not a media type" in refusal(Attachment, filename="a", content=b"", content_type=text)


def test_a_container_is_no_file() -> None:
    assert "multipart/mixed" in refusal(Attachment, filename="a", content=b"", content_type="multipart/mixed")


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\ann\\plan.doc", "plan.doc"),
        ("../../plan.doc", "plan.doc"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("a\u200e\u200f\u061c\u2066\u2069.txt", "a.txt"),
        ("a\x80\x9f.txt", "a.txt"),
        ("a\tb.txt", "ab.txt"),
        (" naïve 😀.txt ", "naïve 😀.txt"),
    ],
    ids=ascii,
)
def test_a_file_name_is_one_plain_name(given_name: str, kept: str) -> None:
    assert Attachment(filename=given_name, content=b"").filename == kept


@pytest.mark.parametrize(
    "name", ["", "/", "a/", ".", "..", "../..", "\u202e", "   ", "a\n", "a\0.exe", "n" * 256], ids=ascii
)
def test_what_names_no_file_is_refused(name: str) -> None:
    assert "filename" in refusal(Attachment, filename=name, content=b"")


def test_an_inline_part_has_a_content_id() -> None:
    assert Attachment(filename="my logo.png", content=b"", inline=True).content_id == "my_logo.png"
    assert Attachment(filename="logo.png", content=b"", inline=True, content_id="<a@b>").content_id == "a@b"
    assert Attachment(filename="logo.png", content=b"").content_id is None


@pytest.mark.parametrize("content_id", ["a b", "a<b", "a>b", "é", "a" * 256, "=?utf-8?q?a?="])
def test_what_is_no_content_id_is_refused(content_id: str) -> None:
    assert "content_id" in refusal(Attachment, filename="a", content=b"", content_id=content_id)


def test_a_file_is_read_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "plan.txt"
    path.write_bytes(b"\0plan\r\n")
    read = Attachment.from_path(path, inline=True)
    assert (read.filename, read.content, read.content_type, read.inline) == (
        "plan.txt",
        b"\0plan\r\n",
        "text/plain",
        True,
    )
    assert Attachment.from_path(str(path)).content == read.content


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert (
        refusal(Attachment.from_path, path=tmp_path / "no")
        == f"cannot read attachment {tmp_path / 'no'}: No such file or directory"
    )


def test_a_directory_or_a_pipe_is_no_attachment(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        assert refusal(Attachment.from_path, path=path) == f"cannot read attachment {path}: not a file"


def test_a_path_that_cannot_be_one_is_refused() -> None:
    assert "cannot read attachment" in refusal(Attachment.from_path, path="a\0b")


def test_a_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert f"{path} is larger than 40,000,000 bytes; send a link" in refusal(Attachment.from_path, path=path)


def test_an_email_too_large_is_refused() -> None:
    half = Attachment(filename="a", content=bytes(LARGEST_EMAIL // 2))
    assert email(attachments=[half, half])
    assert "larger than 40,000,000 bytes" in refusal(email, attachments=[half, half], text="x")


def test_content_is_not_printed() -> None:
    assert "secret" not in repr(email(attachments=[Attachment(filename="a", content=b"secret")]))


# Secrets


SECRET = "sk-very-secret"


@pytest.mark.parametrize("build", [email, sms])
def test_options_are_masked_everywhere_but_in_json(build: Callable[..., Any]) -> None:
    message = build(options={"api_key": SECRET})
    for shown in (repr(message), str(message), repr(message.model_dump()), repr(copy.deepcopy(message))):
        assert SECRET not in shown
    assert message.model_dump(mode="json")["options"] == {"api_key": SECRET}
    assert json.loads(message.model_dump_json())["options"] == {"api_key": SECRET}
    assert message.options["api_key"].get_secret_value() == SECRET


@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"api_key": [SECRET]}},
        {"options": SECRET},
        {"options": {"api_key": SECRET}, "to": 5},
        {"headers": {"X": [SECRET]}},
    ],
)
def test_a_refusal_never_repeats_a_secret(fields: dict[str, Any]) -> None:
    assert SECRET not in refusal(email, **fields)


# Copies and JSON

lines = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=30)
texts = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
addresses = st.builds(
    lambda local, name: Address(email=f"{local}@bücher.example.org", name=name),
    st.text(string.ascii_letters, min_size=1, max_size=9) | st.just("jürgen"),
    lines,
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | lines,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(lines, inner, max_size=3),
    max_leaves=6,
)
moments = st.datetimes(
    datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=5.5))])
)
attachments = st.builds(
    Attachment,
    filename=st.text(string.ascii_letters, min_size=1).map(lambda stem: f"{stem} é.txt"),
    content=st.binary(),
    inline=st.booleans(),
)
shared = {
    "send_at": st.none() | moments,
    "priority": st.sampled_from(["high", "normal", "low"]),
    "category": st.sampled_from(["transactional", "marketing"]),
    "provider": st.none() | st.just("careful"),
    "provider_options": st.dictionaries(lines, values, max_size=3),
    "options": st.dictionaries(lines, lines, max_size=2),
    "required": st.booleans(),
    "id": st.none() | st.just("0198a"),
}
emails = st.builds(
    Email,
    to=st.lists(addresses, min_size=1, max_size=3),
    cc=st.lists(addresses, max_size=2),
    bcc=st.lists(addresses, max_size=2),
    from_=st.none() | addresses,
    reply_to=st.lists(addresses, max_size=2),
    subject=lines,
    text=texts,
    html=texts,
    calendar=texts,
    amp=texts,
    attachments=st.lists(attachments, max_size=2).map(tuple),
    headers=st.dictionaries(st.sampled_from(["X-A", "x-b"]), lines),
    tags=st.lists(lines, max_size=3).map(tuple),
    metadata=st.dictionaries(lines, lines, max_size=3),
    message_id=st.none() | st.just("<1@example.org>"),
    **shared,
)
numbers = st.integers(0, 99).map(lambda n: f"+4420794609{n:02}")
texting = st.builds(
    Sms,
    to=st.lists(numbers, min_size=1, max_size=3),
    from_=st.none() | lines,
    body=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=80),
    media=st.lists(st.just("https://example.org/a.png"), max_size=2).map(tuple),
    channel=st.sampled_from(["sms", "whatsapp"]),
    **shared,
)
messages = emails | texting | attachments


@given(messages)
def test_json_reads_back_as_the_same_message(message: Attachment | Email | Sms) -> None:
    assert type(message).model_validate_json(message.model_dump_json()) == message


@given(texting)
def test_a_dict_from_json_reads_back_too(message: Sms) -> None:
    assert Sms.model_validate(json.loads(message.model_dump_json())) == message


@given(messages)
def test_copies_are_equal(message: Attachment | Email | Sms) -> None:
    assert pickle.loads(pickle.dumps(message)) == message
    assert copy.deepcopy(message) == message


def test_a_stamped_message_reads_back_pickles_and_keeps_its_hand_over() -> None:
    part = (
        email(to=["a@example.org", "b@example.org"])
        .for_recipients(["a@example.org"])
        .stamped(id="1", message_id="<1@b.org>")
    )
    assert pickle.loads(pickle.dumps(part)).recipients == ("a@example.org",)
    assert Email.model_validate_json(part.model_dump_json()).id == "1"


def test_json_speaks_of_from() -> None:
    dumped = json.loads(email(from_="bob@example.com").model_dump_json())
    assert dumped["from"]["email"] == "bob@example.com"
    assert "from_" not in dumped


# Features


@given(emails)
def test_an_emails_features_are_words_plugins_know(message: Email) -> None:
    assert message.features <= EMAIL_FEATURES


@given(texting)
def test_an_smss_features_are_words_plugins_know(message: Sms) -> None:
    assert message.features <= SMS_FEATURES


@pytest.mark.parametrize(
    ("fields", "features"),
    [
        ({"text": "t", "subject": "s"}, set()),
        ({"html": "h", "cc": "c@example.org"}, {"html", "cc"}),
        ({"html": "", "cc": []}, set()),
        ({"headers": {"Reply-To": "r@example.org"}}, {"reply_to"}),
        ({"attachments": [Attachment(filename="a", content=b"")]}, {"attachments"}),
        ({"attachments": [Attachment(filename="a", content=b"", inline=True)]}, {"attachments", "inline"}),
        ({"priority": "high"}, {"priority"}),
        ({"send_at": SOON}, {"send_at"}),
        ({"to": "jürgen@example.org"}, {"international_addresses"}),
        ({"to": "ann@bücher.example.org"}, set()),
        ({"template": "t", "merge_data": {"ann@example.org": {}}}, {"template", "merge_data"}),
    ],
    ids=lambda value: ascii(sorted(value))[:60],
)
def test_features_are_what_an_email_uses(fields: dict[str, Any], features: set[str]) -> None:
    assert email(**fields).features == features


def test_features_are_what_an_sms_uses() -> None:
    assert sms().features == set()
    assert sms(media="https://example.org/a.png", channel="whatsapp").features == {"media", "whatsapp"}


# Ids


def test_ids_are_distinct_and_sort_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [i[:12] for i in ids] == sorted(i[:12] for i in ids)
    assert all(len(i) == 32 and set(i) <= set("0123456789abcdef") for i in ids)


def test_a_copy_with_other_recipients_goes_to_them_and_to_nobody_else() -> None:
    email = Email(to="ann@example.org", text="x")
    assert email.recipients == ("ann@example.org",)
    copied = email.model_copy(update={"to": (Address("bob@example.org"),), "html": "<p>"})
    assert copied.recipients == ("bob@example.org",)
    assert email.recipients == ("ann@example.org",)
