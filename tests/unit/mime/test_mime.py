"""What travels: bytes that the standard library's parser reads back as the message they were made from."""

from __future__ import annotations

import string
from email import message_from_bytes, message_from_string, policy
from email.header import decode_header, make_header
from email.message import EmailMessage, MIMEPart
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.addresses import Address
from postroom.errors import MessageError
from postroom.messages import Attachment, Email
from postroom.mime import needs_smtputf8, to_bytes

# Everything that `str.splitlines` or a careless parser takes for the end of a line.
BREAKS = ["\n", "\r", "\r\n", "\0", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
ENCODED_BREAK = "=?utf-8?q?a=0D=0AX-Evil:_1?="


def email(**fields: Any) -> Email:
    return Email(
        **{"from_": "Bob <bob@example.com>", "to": "ann@example.org", "message_id": "<1@example.com>", **fields}
    )


def parsed(message: Email, **kwargs: Any) -> EmailMessage:
    return message_from_bytes(to_bytes(message, **kwargs), policy=policy.SMTP)


def well_formed(content: bytes) -> EmailMessage:
    """CRLF alone ends lines, none is longer than 998 octets, and the parser finds no defect."""
    assert content.count(b"\n") == content.count(b"\r") == content.count(b"\r\n")
    assert content.endswith(b"\r\n")
    assert max(map(len, content.split(b"\r\n"))) <= 998
    message = message_from_bytes(content, policy=policy.SMTP)
    for part in message.walk():
        assert not part.defects, part.defects
    return message


def people(content: bytes, header: str) -> list[tuple[str, str]]:
    """Names and addresses, by the older API: the newer one puts blanks between adjacent encoded words of a name."""
    values = message_from_string(content.decode()).get_all(header, [])
    return [(str(make_header(decode_header(name))), address) for name, address in getaddresses(values)]


def bodies(message: EmailMessage) -> dict[str, str]:
    """Content of each leaf that is no file, by media type."""
    return {
        part.get_content_type(): unix(part.get_content())
        for part in message.walk()
        if not part.is_multipart() and part.get_content_disposition() is None
    }


def outline(part: MIMEPart) -> str | tuple[Any, ...]:
    """The tree of media types."""
    if part.get_content_type() == "message/rfc822":
        return "message/rfc822"
    if part.is_multipart():
        return (part.get_content_subtype(), *(outline(child) for child in part.iter_parts()))
    return part.get_content_type()


def unix(text: str) -> str:
    """As a receiver sees it: one kind of line end, the last line ended."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return lines if lines.endswith("\n") else f"{lines}\n"


# Headers


def test_the_headers_of_a_simple_email() -> None:
    message = parsed(
        email(subject="Hello", text="Hi", cc="C D <c@example.org>", reply_to=["r@example.org", "s@example.org"])
    )
    assert message["From"] == "Bob <bob@example.com>"
    assert message["To"] == "ann@example.org"
    assert message["Cc"] == "C D <c@example.org>"
    assert message["Reply-To"] == "r@example.org, s@example.org"
    assert message["Subject"] == "Hello"
    assert message["Message-ID"] == "<1@example.com>"
    assert message["MIME-Version"] == "1.0"
    assert parsedate_to_datetime(message["Date"]).tzinfo is not None


def test_bcc_is_never_written() -> None:
    content = to_bytes(email(bcc=["Hidden <hidden@example.org>"], cc="c@example.org"))
    assert b"hidden" not in content.lower()
    assert b"bcc" not in content.lower()


def test_recipients_who_are_all_hidden_are_called_undisclosed() -> None:
    assert parsed(email(to=(), bcc="a@example.org"))["To"] == "undisclosed-recipients:;"


def test_without_to_a_cc_stands_alone() -> None:
    message = parsed(email(to=(), cc="a@example.org"))
    assert message["To"] is None
    assert message["Cc"] == "a@example.org"


def test_a_date_of_the_callers_replaces_ours() -> None:
    given_date = "Tue, 01 Jan 2030 00:00:00 +0000"
    assert parsed(email(headers={"Date": given_date})).get_all("Date") == [given_date]


@pytest.mark.parametrize(("priority", "number", "word"), [("high", "1", "high"), ("low", "5", "low")])
def test_priority_is_said_in_both_customary_headers(priority: str, number: str, word: str) -> None:
    message = parsed(email(priority=priority))
    assert (message["X-Priority"], message["Importance"]) == (number, word)


def test_normal_priority_is_not_mentioned() -> None:
    message = parsed(email())
    assert message["X-Priority"] is None
    assert message["Importance"] is None


def test_a_priority_header_of_the_callers_is_not_doubled() -> None:
    message = parsed(email(priority="high", headers={"x-priority": "2"}))
    assert message.get_all("X-Priority") == ["2"]


def test_a_long_url_in_a_header_is_folded_but_never_cut() -> None:
    url = f"<https://example.org/{'x' * 500}>"
    content = to_bytes(email(headers={"List-Unsubscribe": f"<mailto:u@example.org>, {url}"}))
    assert url.encode() in content
    assert well_formed(content)["List-Unsubscribe"] == f"<mailto:u@example.org>, {url}"


def test_a_hundred_recipients_with_names_in_other_scripts_fold() -> None:
    crowd = [Address(email=f"p{n}@example.org", name=f"Борис Николаевич, номер {n}" * 3) for n in range(100)]
    content = to_bytes(email(to=crowd))
    well_formed(content)
    assert people(content, "To") == [(a.name, a.email) for a in crowd]


def test_a_quoted_name_is_never_folded_inside() -> None:
    crowd = [Address(f'"a b"@p{n}.example.org', f"Desk {n}, " + "word " * 12 + '"x"') for n in range(20)]
    content = to_bytes(email(to=crowd, cc=Address("c@example.org", 'long, "name" ' * 30)))
    assert people(content, "To") == [(a.name, a.email) for a in crowd]
    assert people(content, "Cc")[0] == (('long, "name" ' * 30).strip(), "c@example.org")
    assert max(map(len, content.split(b"\r\n"))) <= 100


def test_a_header_with_a_thousand_blanks_keeps_its_lines_short() -> None:
    subject = "a" + " " * 1500 + "b"
    assert well_formed(to_bytes(email(subject=subject)))["Subject"] == subject


@pytest.mark.parametrize("text", ["=?utf-8?q?Boss?=", "a =?utf-8?q?b?= c", "=?"])
def test_text_that_looks_like_an_encoded_word_arrives_as_text(text: str) -> None:
    message = parsed(email(subject=text, to=Address(email="a@example.org", name=text)))
    assert message["Subject"] == text
    assert message["To"].addresses[0].display_name == text


def test_encoded_words_are_at_most_75_octets_on_lines_of_at_most_76() -> None:
    head = to_bytes(email(subject="Ελληνικά 😀 " * 30, to=Address(email="a@example.org", name="名前" * 40)))
    for line in head.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if b"=?" in line:
            assert len(line) <= 76
            assert all(len(word) <= 75 for word in line.split() if word.startswith(b"=?"))


# International addresses


def test_an_international_domain_goes_in_idna_form() -> None:
    content = to_bytes(email(to="ann@bücher.example.org"))
    assert b"ann@xn--bcher-kva.example.org" in content
    assert content.isascii()


def test_a_local_part_that_needs_smtputf8_is_refused_by_name_without_it() -> None:
    with pytest.raises(MessageError, match="jürgen@example.org"):
        to_bytes(email(to="jürgen@example.org"))


def test_with_smtputf8_headers_and_addresses_go_as_utf8() -> None:
    content = to_bytes(email(to="Jürgen <jürgen@bücher.example.org>", subject="Grüße"), smtputf8=True)
    assert "jürgen@bücher.example.org".encode() in content
    assert "Subject: Grüße\r\n".encode() in content
    assert b"=?" not in content


@pytest.mark.parametrize("field", ["to", "cc", "bcc", "from_", "reply_to"])
def test_a_local_part_outside_ascii_needs_smtputf8_wherever_it_stands(field: str) -> None:
    assert needs_smtputf8(email(**{field: "jürgen@example.org"}))
    assert not needs_smtputf8(email(**{field: "ann@bücher.example.org"}))


# Structure


CALENDAR = "BEGIN:VCALENDAR\nMETHOD:REQUEST\nEND:VCALENDAR\n"
FILE = Attachment(filename="a.pdf", content=b"%PDF")
IMAGE = Attachment(filename="logo.png", content=b"\x89PNG", inline=True, content_id="logo")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "text/plain"),
        ({"text": "t"}, "text/plain"),
        ({"html": "h"}, "text/html"),
        ({"text": "t", "html": ""}, "text/plain"),
        ({"text": "", "html": "h"}, "text/html"),
        ({"text": "t", "html": "h"}, ("alternative", "text/plain", "text/html")),
        ({"calendar": CALENDAR}, "text/calendar"),
        ({"amp": "a"}, ("alternative", "text/plain", "text/x-amp-html")),
        (
            {"text": "t", "amp": "a", "html": "h", "calendar": CALENDAR},
            ("alternative", "text/plain", "text/x-amp-html", "text/html", "text/calendar"),
        ),
        ({"attachments": [FILE]}, ("mixed", "text/plain", "application/pdf")),
        ({"html": "h", "attachments": [IMAGE]}, ("related", "text/html", "image/png")),
        (
            {"text": "t", "html": "h", "attachments": [IMAGE, FILE]},
            ("mixed", ("alternative", "text/plain", ("related", "text/html", "image/png")), "application/pdf"),
        ),
        ({"text": "t", "attachments": [IMAGE]}, ("mixed", "text/plain", "image/png")),
    ],
)
def test_the_structure_follows_what_is_in_the_email(fields: dict[str, Any], expected: str | tuple[Any, ...]) -> None:
    assert outline(well_formed(to_bytes(email(**fields)))) == expected


def test_a_calendar_says_its_method() -> None:
    part = parsed(email(calendar=CALENDAR))
    assert part["Content-Type"].params["method"] == "REQUEST"


def test_an_inline_part_carries_its_content_id_and_disposition() -> None:
    message = parsed(email(html='<img src="cid:logo">', attachments=[IMAGE]))
    image = message.get_payload()[1]  # type: ignore[index]
    assert image["Content-ID"] == "<logo>"  # type: ignore[index]
    assert image.get_content_disposition() == "inline"  # type: ignore[union-attr]
    assert image.get_filename() == "logo.png"  # type: ignore[union-attr]
    assert message["Content-Type"].params["type"] == "text/html"


# Bodies


def test_a_short_ascii_text_goes_as_it_is() -> None:
    content = to_bytes(email(text="Hello\nBob\n"))
    assert content.endswith(b"Content-Transfer-Encoding: 7bit\r\n\r\nHello\r\nBob\r\n")


@pytest.mark.parametrize(
    "text", ["x" * 998, "x" * 999, "NUL \0", "x" * 5000, "é" * 5000, "\n".join(["x" * 3000] * 3), "." * 3000]
)
def test_long_lines_are_encoded_and_come_back_whole(text: str) -> None:
    assert bodies(well_formed(to_bytes(email(text=text))))["text/plain"] == unix(text)


@pytest.mark.parametrize("text", ["a\rb\r\nc\nd", "\r", "", "\n", "trailing \t\n", ".\n..\n", "From me\n", "=3D", "\t"])
def test_awkward_texts_come_back_with_one_kind_of_line_end(text: str) -> None:
    assert bodies(well_formed(to_bytes(email(text=text))))["text/plain"] == unix(text)


def test_mostly_ascii_text_stays_readable_and_other_scripts_stay_short() -> None:
    assert b"quoted-printable" in to_bytes(email(text="A naïve café, otherwise plain text." * 3))
    assert b"base64" in to_bytes(email(text="Всё по-русски. " * 10))


# Attachments


@pytest.mark.parametrize("content", [b"", b"\0\r\n\n\r", b"a\nb", bytes(range(256)) * 300])
@pytest.mark.parametrize("content_type", ["text/plain", "text/csv; charset=utf-16", "application/pdf", "image/png"])
def test_an_attachment_arrives_byte_for_byte(content: bytes, content_type: str) -> None:
    attachment = Attachment(filename="f.bin", content=content, content_type=content_type)
    part = next(iter(well_formed(to_bytes(email(attachments=[attachment]))).iter_attachments()))
    assert part.get_payload(decode=True) == content
    assert part.get_content_type() == content_type.split(";", maxsplit=1)[0]


def test_an_attached_message_goes_as_it_is() -> None:
    inner = b"Subject: Inner\r\nFrom: a@example.org\r\n\r\nHi\r\n"
    attachment = Attachment(filename="inner.eml", content=inner)
    message = well_formed(to_bytes(email(attachments=[attachment])))
    part = next(iter(message.iter_attachments()))
    assert part.get_content_type() == "message/rfc822"
    assert part["Content-Transfer-Encoding"] == "7bit"
    assert part.get_content()["Subject"] == "Inner"
    assert inner in to_bytes(email(attachments=[attachment]))


@pytest.mark.parametrize("body", [b"caf\xe9", b"x" * 2000, b"\0"])
def test_an_attached_message_that_7bit_cannot_carry_goes_as_a_file(body: bytes) -> None:
    inner = b"Subject: Inner\r\n\r\n" + body
    message = well_formed(to_bytes(email(attachments=[Attachment(filename="inner.eml", content=inner)])))
    part = next(iter(message.iter_attachments()))
    assert part.get_content_type() == "application/octet-stream"
    assert part.get_filename() == "inner.eml"
    assert part.get_payload(decode=True) == inner


@pytest.mark.parametrize(
    "name",
    [
        "a.pdf",
        "two words.pdf",
        'quo"te.pdf',
        "naïve.pdf",
        "日本語" * 60 + ".pdf",
        "x" * 251 + ".pdf",
        "a;b=c.pdf",
        ENCODED_BREAK,
        "100%.txt",
        "a'b'c.txt",
        "😀" * 255,
    ],
)
def test_any_file_name_arrives(name: str) -> None:
    part = next(
        iter(well_formed(to_bytes(email(attachments=[Attachment(filename=name, content=b"x")]))).iter_attachments())
    )
    assert part.get_filename() == name


def test_a_long_content_id_is_not_encoded_away() -> None:
    image = Attachment(filename="i.png", content=b"x", inline=True, content_id="i" * 250)
    assert f"Content-ID: <{'i' * 250}>\r\n".encode() in to_bytes(email(html="h", attachments=[image]))


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"), min_size=1))
def test_an_email_is_the_same_bytes_each_time_it_is_written(text: str, html: str) -> None:
    message = email(text=text, html=html, attachments=[Attachment(filename="a.txt", content=b"x")])
    written = to_bytes(message)
    assert written == to_bytes(message) == to_bytes(message.stamped())


def test_a_boundary_differs_with_what_it_stands_between() -> None:
    boundaries = {parsed(email(text=text, html=html)).get_boundary() for text in "ab" for html in "cd"}
    assert len(boundaries) == 4


def test_a_text_that_quotes_the_boundary_it_would_have_had_gets_another_one() -> None:
    known = parsed(email(text="t", html="h")).get_boundary()
    quoting = email(text=f"t\r\n--{known}--\r\n", html="h")
    assert outline(well_formed(to_bytes(quoting))) == ("alternative", "text/plain", "text/html")
    assert parsed(quoting).get_boundary() != known


# Attacks


def attached(**fields: Any) -> Email:
    return email(attachments=[{"filename": "a", "content": b"x", **fields}])


ENTRANCES = {
    "subject": lambda text: email(subject=text),
    "header": lambda text: email(headers={"X-Note": text}),
    "header name": lambda text: email(headers={text: "note"}),
    "lifted header": lambda text: email(headers={"Reply-To": text}),
    "lifted id": lambda text: email(message_id=None, headers={"Message-ID": f"<{text}@example.org>"}),
    "message id": lambda text: email(message_id=f"<{text}@example.org>"),
    "name": lambda text: email(to=f"{text} <a@example.org>"),
    "quoted name": lambda text: email(to=f'"{text}" <a@example.org>'),
    "name field": lambda text: email(to={"email": "a@example.org", "name": text}),
    "local part": lambda text: email(to=f"{text}@example.org"),
    "quoted local part": lambda text: email(bcc=f'"{text}"@example.org'),
    "domain": lambda text: email(to=f"a@{text}.org"),
    "sender": lambda text: email(from_=f"{text} <a@example.org>"),
    "file name": lambda text: attached(filename=text),
    "parameter": lambda text: attached(content_type=f"text/plain; a={text}"),
    "quoted parameter": lambda text: attached(content_type=f'text/plain; a="{text}"'),
    "content id": lambda text: attached(content_id=text),
}


@pytest.mark.parametrize("end", BREAKS, ids=ascii)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_no_line_break_gets_into_a_header(entrance: str, end: str) -> None:
    for text in (f"x{end}X-Evil: 1", f"x{end}{end}Evil body", f"x{end} y", f"{end}x"):
        with pytest.raises(MessageError):
            ENTRANCES[entrance](text)


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": ENCODED_BREAK},
        {"headers": {"X-Note": ENCODED_BREAK}},
        {"to": Address(email="a@example.org", name=ENCODED_BREAK)},
        {"attachments": [Attachment(filename=ENCODED_BREAK, content=b"x")]},
        {"attachments": [Attachment(filename="a", content=b"x", content_type=f'text/plain; name="{ENCODED_BREAK}"')]},
        {
            "attachments": [
                Attachment(filename="a", content=b"x", content_type="text/plain; name*=utf-8''a%0D%0AX-Evil:1")
            ]
        },
        {"calendar": "METHOD:REQUEST\r\nX-Evil: 1\r\n"},
        {"subject": "a\tX-Evil: 1"},
    ],
)
def test_an_encoded_line_break_stays_encoded(fields: dict[str, Any]) -> None:
    content = to_bytes(email(**fields))
    heads = [part.partition(b"\r\n\r\n")[0] for part in content.split(b"\r\n--=_")]
    assert not any(line.lower().startswith(b"x-evil") for head in heads for line in head.split(b"\r\n"))


def test_a_content_id_that_is_an_encoded_word_is_refused() -> None:
    with pytest.raises(MessageError, match="content_id"):
        Attachment(filename="a", content=b"x", content_id=ENCODED_BREAK)


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_whatever_is_accepted_adds_no_header(subject: str, name: str, value: str) -> None:
    try:
        message = email(subject=subject, headers={"X-Note": value}, to={"email": "a@example.org", "name": name})
    except MessageError:
        return
    for smtputf8 in (False, True):
        content = to_bytes(message, smtputf8=smtputf8)
        head = content.partition(b"\r\n\r\n")[0].decode()
        names = [line.partition(":")[0] for line in head.split("\r\n") if not line.startswith(" ")]
        assert names == [
            "From",
            "To",
            "Subject",
            "Date",
            "Message-ID",
            "X-Note",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
        ]
        assert all(line.strip() for line in head.split("\r\n"))


# Round trip

ASSIGNED = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cn"])
line_text = st.text(ASSIGNED | st.sampled_from(' ",;<>()\\=?_'), max_size=120).map(str.strip)
names = line_text.map(lambda text: " ".join(text.split()))
texts = st.none() | st.text(ASSIGNED | st.sampled_from("\r\n\t .=\0\x0b\x0c\x1c\x85"), max_size=400)
atoms = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)
bare = st.builds(lambda local, domain: f"{local}@{domain}.example.org", atoms, atoms | st.just("bücher"))
addresses = st.builds(lambda email, name: Address(email=email, name=name), bare, names)
files = st.builds(
    lambda name, content, inline: Attachment(filename=name, content=content, inline=inline, content_type="image/png"),
    st.text(ASSIGNED, max_size=200).map(lambda name: f"{name}.png"),
    st.binary(max_size=300),
    st.booleans(),
)
emails = st.builds(
    lambda to, cc, reply_to, from_, **rest: Email(to=to, cc=cc, reply_to=reply_to, from_=from_, **rest),
    st.lists(addresses, min_size=1, max_size=5),
    st.lists(addresses, max_size=3),
    st.lists(addresses, max_size=2),
    addresses,
    subject=line_text,
    text=texts,
    html=texts,
    amp=texts,
    attachments=st.lists(files, max_size=3).map(tuple),
    headers=st.dictionaries(st.just("X-Note"), line_text),
    priority=st.sampled_from(["high", "normal", "low"]),
    message_id=st.just("<1@example.com>"),
)


@settings(max_examples=80, deadline=None)
@given(emails, st.booleans())
def test_what_the_parser_reads_is_what_was_written(written: Email, smtputf8: bool) -> None:
    content = to_bytes(written, smtputf8=smtputf8)
    read = message_from_string(content.decode(), policy=policy.SMTP) if smtputf8 else well_formed(content)
    for header, group in (
        ("From", [written.from_]),
        ("To", written.to),
        ("Cc", written.cc),
        ("Reply-To", written.reply_to),
    ):
        assert people(content, header) == [(a.name, a.email if smtputf8 else a.ascii_email) for a in group]  # type: ignore[union-attr]
    assert read["Subject"] == written.subject
    assert [value for name, value in read.items() if name == "X-Note"] == list(written.headers.values())
    given_bodies = {"text/plain": written.text, "text/html": written.html, "text/x-amp-html": written.amp}
    expected = {kind: unix(text) for kind, text in given_bodies.items() if text}
    if not (written.text or written.html):
        expected["text/plain"] = "\n"
    assert bodies(read) == expected
    found = [part for part in read.walk() if part.get_content_disposition()]
    assert sorted((p.get_filename(), p.get_payload(decode=True)) for p in found) == sorted(
        (a.filename, a.content) for a in written.attachments
    )


@settings(max_examples=60, deadline=None)
@given(line_text, texts, texts)
def test_it_reads_like_what_the_standard_library_writes(subject: str, text: str | None, html: str | None) -> None:
    theirs = EmailMessage(policy=policy.SMTP)
    theirs["From"], theirs["To"], theirs["Subject"] = "Bob <bob@example.com>", "ann@example.org", subject
    theirs.set_content(unix(text or ""))
    if html:
        theirs.add_alternative(unix(html), subtype="html")
    theirs = message_from_bytes(theirs.as_bytes(), policy=policy.SMTP)
    ours = parsed(email(subject=subject, text=text or "\n", html=html))
    assert outline(ours) == outline(theirs)
    assert bodies(ours) == bodies(theirs)
    assert [ours[name] for name in ("From", "To")] == [theirs[name] for name in ("From", "To")]
