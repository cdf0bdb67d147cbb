"""Addresses and numbers: what is taken, in which form it is kept, and how the rest is refused."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from postroom.addresses import Address, email_address, phone_number, quoted_name
from postroom.errors import InvalidAddress, MessageError
from postroom.messages import Email, Sms


def read(text: Any) -> Address:
    """An address as a message takes it."""
    return Email(to=[text]).to[0]


def number(text: str) -> str:
    return Sms(to=[text], body="Hi").to[0]


@pytest.mark.parametrize(
    ("text", "email", "name"),
    [
        ("ann@example.org", "ann@example.org", ""),
        ("  ann@example.org ", "ann@example.org", ""),
        ("<ann@example.org>", "ann@example.org", ""),
        ("Ann <ann@example.org>", "ann@example.org", "Ann"),
        ("Ann Lee<ann@example.org>", "ann@example.org", "Ann Lee"),
        ('"Lee, Ann" <ann@example.org>', "ann@example.org", "Lee, Ann"),
        ('"Ann \\"The\\" <Lee>" <ann@example.org>', "ann@example.org", 'Ann "The" <Lee>'),
        ('"a" and "b" <ann@example.org>', "ann@example.org", '"a" and "b"'),
        ("Ann\t  Lee <ann@example.org>", "ann@example.org", "Ann Lee"),
        ("Ann.Lee@EXAMPLE.Org", "Ann.Lee@example.org", ""),
        ("名前 <ann@例え.jp>", "ann@例え.jp", "名前"),
        ("ann@xn--r8jz45g.jp", "ann@例え.jp", ""),
        ("jürgen@example.org", "jürgen@example.org", ""),
        ('"ann lee"@example.org', '"ann lee"@example.org', ""),
        ('Ann <"a<b>"@example.org>', '"a<b>"@example.org', "Ann"),
        ("ann+tag@example.org", "ann+tag@example.org", ""),
        ("root@localhost", "root@localhost", ""),
        ("ann@printer.local", "ann@printer.local", ""),
        ("ann@mail.test", "ann@mail.test", ""),
        ("ann@intranet", "ann@intranet", ""),
        ("ann@[127.0.0.1]", "ann@[127.0.0.1]", ""),
    ],
)
def test_an_address_is_read_from_text(text: str, email: str, name: str) -> None:
    address = read(text)
    assert (address.email, address.name) == (email, name)


@pytest.mark.parametrize(
    ("text", "ascii_email"),
    [
        ("ann@example.org", "ann@example.org"),
        ("ann@bücher.example.org", "ann@xn--bcher-kva.example.org"),
        ("ann@bücher.test", "ann@xn--bcher-kva.test"),
        ("jürgen@example.org", None),
        ("root@localhost", "root@localhost"),
    ],
)
def test_the_ascii_form_is_for_providers_without_international_addresses(text: str, ascii_email: str | None) -> None:
    assert read(text).ascii_email == ascii_email


def test_the_domain_stands_behind_the_last_at() -> None:
    assert read('"a@b"@example.org').domain == "example.org"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "ann",
        "@",
        "ann@",
        "@example.org",
        "ann@@example.org",
        "ann@example..org",
        ".ann@example.org",
        "ann lee@example.org",
        "ann@exa mple.org",
        "mailto:ann@example.org",
        "<script>",
        "ann@example.org>",
        "<ann@example.org",
        "ann@-example.org",
        "ann@" + "a" * 64 + ".org",
        "a@" + "b." * 200 + "org",
        "ann@example.org\u202e",
        "a\xa0b@example.org",
        "a\u3000b@example.org",
        "a\u200b@exam\u200bple.org",
    ],
    ids=ascii,
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        read(text)


@pytest.mark.parametrize("text", ["a@b.org, c@d.org", "Ann <a@b.org>, Bob <c@d.org>", "a@b.org;c@d.org"])
def test_several_addresses_in_one_text_are_told_to_be_a_list(text: str) -> None:
    with pytest.raises(InvalidAddress, match="several addresses; give them as a list"):
        read(text)


@pytest.mark.parametrize("value", [None, 5, b"ann@example.org", ["ann@example.org"], object()])
def test_what_is_not_even_text_is_refused_with_an_example(value: Any) -> None:
    with pytest.raises(InvalidAddress, match="Ann <ann@example.org>"):
        read(value)


@pytest.mark.parametrize(
    "character", ["\r", "\n", "\0", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\x7f", "\ud800"], ids=ascii
)
def test_line_breaks_and_control_characters_are_refused_anywhere(character: str) -> None:
    for text in (f"ann{character}@example.org", f"A{character} <ann@example.org>", f"ann@example.org{character}"):
        with pytest.raises(InvalidAddress):
            read(text)
    with pytest.raises(InvalidAddress):
        read({"email": "ann@example.org", "name": f"A{character}"})


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1000000,
        "a@" * 500000,
        "<" * 1000000,
        '"' * 1000000,
        " " * 1000000,
        "a" * 900 + "@",
        "\\" * 990,
        "<" * 990,
        '"' + "\\" * 900,
        '"' * 990,
        " " * 990,
        'a"' * 490 + "<",
    ],
    ids=lambda text: f"{text[:3]}{len(text)}",
)
def test_a_huge_or_twisted_text_costs_less_to_refuse_than_a_thousand_addresses_to_read(text: str) -> None:
    started = time.thread_time()
    with pytest.raises(InvalidAddress):
        read(text)
    refused = time.thread_time() - started
    started = time.thread_time()
    for _ in range(1000):
        read("Ann <ann@example.org>")
    assert refused < time.thread_time() - started  # a thirtieth is usual


def test_a_huge_text_is_not_repeated_in_the_error() -> None:
    with pytest.raises(InvalidAddress) as caught:
        read("a" * 1_000_000)
    assert len(str(caught.value)) < 200


def test_a_name_too_long_for_a_header_is_refused() -> None:
    with pytest.raises(InvalidAddress, match="998"):
        read({"email": "ann@example.org", "name": "n" * 999})


def test_an_address_field_takes_no_name_beside_it() -> None:
    with pytest.raises(InvalidAddress, match="name goes into `name`"):
        read({"email": "Ann <ann@example.org>"})


@pytest.mark.parametrize("email", ["bad", "", None, 5])
def test_an_address_built_directly_is_refused_in_our_words(email: int | str | None) -> None:
    with pytest.raises(MessageError):
        Address(email)  # type: ignore[arg-type]


def test_an_address_inside_a_message_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidAddress, match=r"^Email cannot be sent: cc\.1: 'bad' is not an e-mail address"):
        Email(to="ann@example.org", cc=["b@example.org", {"email": "bad"}])


def test_an_address_is_frozen_and_hashable() -> None:
    address = read("Ann <ann@example.org>")
    with pytest.raises(ValidationError):
        address.email = "x"  # type: ignore[misc]
    assert {address: 1}[Address(email="ann@example.org", name="Ann")] == 1


names = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]) | st.sampled_from('" \\,<>@()'), max_size=60)
locals_ = st.sampled_from(["ann", '"ann lee"', '"a<b"', '"a>b,c"', '"a\\"b"', '"a@b"', "jürgen", "a.b+c"])


@given(names, locals_, st.sampled_from(["example.org", "bücher.example.org", "localhost", "box.local"]))
def test_text_of_an_address_reads_back_as_the_same_address(name: str, local: str, domain: str) -> None:
    address = Address(email=f"{local}@{domain}", name=name)
    assert read(str(address)) == address
    assert Address.model_validate_json(address.model_dump_json()) == address


@given(st.text(max_size=200) | st.text('ann@example.org<>", \\\t', max_size=60))
def test_any_text_is_an_address_or_an_invalid_address(text: str) -> None:
    try:
        address = read(text)
    except InvalidAddress:
        return
    assert read(str(address)) == address
    assert "\n" not in str(address)


@given(st.text(max_size=40))
def test_a_quoted_name_is_plain_words_or_in_quotes(name: str) -> None:
    quoted = quoted_name(name)
    assert quoted == name or (quoted[0] == quoted[-1] == '"')
    if quoted == name:
        assert not set(name) & set('()<>[]:;@\\,."')


def test_a_bare_address_takes_the_form_an_address_has() -> None:
    assert email_address(" Ann@EXAMPLE.org ") == "Ann@example.org"


@pytest.mark.parametrize(
    "text",
    [
        "+442079460958",
        "+44 20 7946 0958",
        "+44-20-7946-0958",
        "+44 (0)20 7946 0958",
        "+44.20.7946.0958",
        " +442079460958 ",
        "+44\xa020\xa07946\xa00958",
        "+４４2079460958",
    ],
)
def test_a_number_takes_its_e164_form_however_it_is_written(text: str) -> None:
    assert number(text) == "+442079460958"


def test_a_leading_zero_that_belongs_to_the_number_stays() -> None:
    assert number("+39 06 6982") == "+39066982"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "+",
        "++44",
        "+1",
        "2079460958",
        "020 7946 0958",
        "0044 20 7946 0958",
        "tel:+442079460958",
        "+1-800-FLOWERS",
        "+44 20 7946 0958 ext 5",
        "+0123456789",
        "+999999999",
        "+12345678901234567",
        "+442079460958;+442079460959",
        "+44\n2079460958",
        "+44\x002079460958",
        "+44 20 7946 0958\r\nX: 1",
        "+" * 60,
        "+" + "9" * 63,
        "x" * 1000000,
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_what_is_no_international_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        number(text)


def test_a_national_number_is_told_how_to_be_written() -> None:
    with pytest.raises(InvalidAddress, match=r"international form; write it like \+44"):
        number("07700 900123")


@given(st.text(max_size=80) | st.from_regex(r"\+[\d ().\-/]{0,25}", fullmatch=True))
def test_any_text_is_a_number_or_an_invalid_address(text: str) -> None:
    try:
        found = number(text)
    except InvalidAddress:
        return
    assert found[0] == "+"
    assert found[1:].isascii()
    assert found[1:].isdigit()
    assert len(found) <= 16
    assert phone_number(found) == found


def test_both_kinds_of_refusal_are_message_errors() -> None:
    assert issubclass(InvalidAddress, MessageError)
