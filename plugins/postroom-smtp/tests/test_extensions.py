"""SIZE, SMTPUTF8, 8BITMIME and DSN: used when offered, a clear error when needed and not offered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from postroom import Email
from postroom.errors import InvalidOption, MessageError, UnsupportedFeature
from postroom.testing.smtp import SmtpRecorder
from postroom_smtp.options import xtext

if TYPE_CHECKING:
    from .conftest import OpenAccount


async def test_the_size_is_announced(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server)
    await account.send(make_email(text=".dots\n..do not count\n"))
    assert server.messages[0].mail_options == f"SIZE={len(server.messages[0].data)}"


async def test_a_message_over_the_announced_limit_is_refused_before_it_is_sent(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server = await start_server(extensions=["PIPELINING", "SIZE 1000"])
    account = await open_account(server)
    with pytest.raises(MessageError, match="1,000") as caught:
        await account.send(make_email(text="x" * 70 + "\n" + "y" * 2000))
    assert "nothing was sent" in str(caught.value)
    assert not any(command.startswith("MAIL") for command in server.commands)
    await account.send(make_email())
    assert server.connections == 1


async def test_a_size_without_a_limit_is_no_limit(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server = await start_server(extensions=["SIZE"])
    account = await open_account(server)
    await account.send(make_email(text="word " * 1000))
    assert "SIZE=" in server.messages[0].mail_options


async def test_an_international_address_goes_by_smtputf8(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server)
    await account.send(make_email(to="Jörg <jörg@bücher.example.org>"))
    message = server.messages[0]
    assert message.recipients == ("jörg@bücher.example.org",)
    assert "SMTPUTF8" in message.mail_options
    assert "BODY=8BITMIME" in message.mail_options


async def test_an_international_domain_alone_goes_in_ascii(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server = await start_server(extensions=["PIPELINING"])
    account = await open_account(server)
    email = make_email(to=["ann@bücher.example.org", "bob@example.org"])
    accepted = await account.send(email)
    assert server.messages[0].recipients == ("ann@xn--bcher-kva.example.org", "bob@example.org")
    assert server.messages[0].mail_options == ""
    assert server.messages[0].data.isascii()
    assert accepted.recipients == ()


async def test_an_international_address_without_smtputf8_is_unsupported(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server = await start_server(extensions=["PIPELINING", "8BITMIME"])
    account = await open_account(server)
    with pytest.raises(UnsupportedFeature, match="SMTPUTF8") as caught:
        await account.send(make_email(to="jörg@example.org"))
    assert caught.value.feature == "international_addresses"
    assert not any(command.startswith("MAIL") for command in server.commands)


async def test_notifications_are_asked_for_each_recipient(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server)
    dsn = {"notify": ["failure", "delay"], "ret": "hdrs", "envid": "order=7"}
    await account.send(make_email(to=["ann+x@example.org", "bob@example.org"], provider_options={"dsn": dsn}))
    message = server.messages[0]
    assert "RET=HDRS ENVID=order+3D7" in message.mail_options
    assert message.rcpt_options == (
        "NOTIFY=FAILURE,DELAY ORCPT=rfc822;ann+2Bx@example.org",
        "NOTIFY=FAILURE,DELAY ORCPT=rfc822;bob@example.org",
    )


async def test_notifications_without_the_extension_are_unsupported(
    start_server: Callable[..., Awaitable[SmtpRecorder]], open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    server = await start_server(extensions=["PIPELINING"])
    account = await open_account(server)
    with pytest.raises(UnsupportedFeature, match="DSN"):
        await account.send(make_email(provider_options={"dsn": {"notify": ["success"]}}))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dns": {}}, "provider_options.dns: .*did you mean 'dsn'"),
        ({"tracking": True}, "provider_options.tracking: .*SMTP knows 'dsn'"),
        ({"dsn": {"notfy": ["never"]}}, "provider_options.dsn.notfy: .*did you mean 'notify'"),
        ({"dsn": {"notify": ["sometimes"]}}, "provider_options.dsn.notify.0"),
        ({"dsn": {"notify": ["never", "delay"]}}, "cannot stand beside"),
        ({"dsn": {"envid": "a\r\nRCPT TO:<x@y.org>"}}, "printable ASCII"),
        ({"dsn": "yes"}, "provider_options.dsn"),
    ],
)
async def test_an_unknown_option_is_an_error_that_names_it(
    server: SmtpRecorder,
    open_account: OpenAccount,
    make_email: Callable[..., Email],
    options: dict[str, Any],
    told: str,
) -> None:
    account = await open_account(server)
    attempts: tuple[Callable[[Email], Any], ...] = (account.validate, account.send)
    for attempt in attempts:
        with pytest.raises(InvalidOption, match=told):
            found = attempt(make_email(provider_options=options))
            await found
    assert server.connections == 0


def test_xtext_encodes_what_rfc_3461_says() -> None:
    assert xtext(b"a+b=c d\xff") == b"a+2Bb+3Dc+20d+FF"


async def test_an_address_with_a_line_break_never_reaches_the_wire(
    server: SmtpRecorder, open_account: OpenAccount, make_email: Callable[..., Email]
) -> None:
    account = await open_account(server)
    email = make_email()
    bad = email.to[0].model_copy(update={"email": "ann@example.org>\r\nRCPT TO:<evil@example.org"})
    with pytest.raises(MessageError, match="control character"):
        await account.send(email.model_copy(update={"to": (bad,)}))
    assert server.connections == 0


async def test_a_message_without_a_sender_is_refused(server: SmtpRecorder, open_account: OpenAccount) -> None:
    account = await open_account(server)
    with pytest.raises(MessageError, match="no sender"):
        await account.send(Email(to="ann@example.org", text="x", id="1" * 32, message_id="<1@example.org>"))
