"""The loopback SMTP server behaves like one, to a client that is not ours."""

from __future__ import annotations

import asyncio
import smtplib
import ssl

import pytest
import trustme

from postroom.testing.smtp import SmtpRecorder


def _send(port: int, *, context: ssl.SSLContext | None = None, login: tuple[str, str] | None = None) -> None:
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=60) as client:
        if context:
            client.starttls(context=context)
        if login:
            client.login(*login)
        client.sendmail("a@example.org", ["b@example.org", "c@example.org"], b"Subject: x\r\n\r\n.one\r\n..two\r\n")


async def test_it_records_envelope_and_content() -> None:
    async with SmtpRecorder() as server:
        await asyncio.to_thread(_send, server.port)
    (message,) = server.messages
    assert (message.sender, message.recipients) == ("a@example.org", ("b@example.org", "c@example.org"))
    assert message.data == b"Subject: x\r\n\r\n.one\r\n..two\r\n"
    assert (message.tls, message.user, message.connection) == (False, None, 1)
    assert [command.split()[0].lower() for command in server.commands] == [
        "ehlo",
        "mail",
        "rcpt",
        "rcpt",
        "data",
        "quit",
    ]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_it_speaks_starttls_and_auth(mechanism: str) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with SmtpRecorder(tls=context, auth={"ann": "secret"}, mechanisms=[mechanism]) as server:
        await asyncio.to_thread(_send, server.port, context=trusting, login=("ann", "secret"))
        with pytest.raises(smtplib.SMTPAuthenticationError):
            await asyncio.to_thread(_send, server.port, context=trusting, login=("ann", "wrong"))
        with pytest.raises(smtplib.SMTPSenderRefused):
            await asyncio.to_thread(_send, server.port, context=trusting)
    (message,) = server.messages
    assert (message.tls, message.user) == (True, "ann")


async def test_a_script_answers_as_it_is_scripted() -> None:
    async with SmtpRecorder() as server:
        server.reply("RCPT", "550 5.1.1 no such user", match="b@")
        server.reply("dot", "451 4.3.0 later", times=1)
        with pytest.raises(smtplib.SMTPDataError):
            await asyncio.to_thread(_send, server.port)
        await asyncio.to_thread(_send, server.port)
    assert [message.recipients for message in server.messages] == [("c@example.org",)]


@pytest.mark.parametrize("stage", ["connect", "ehlo", "mail", "rcpt", "data", "half-body", "dot"])
async def test_a_drop_ends_the_connection_at_its_stage(stage: str) -> None:
    async with SmtpRecorder() as server:
        server.drop(stage)
        with pytest.raises((smtplib.SMTPException, ConnectionError)):
            await asyncio.to_thread(_send, server.port)
    assert len(server.messages) == (stage == "dot")


async def test_a_drop_may_say_something_first() -> None:
    async with SmtpRecorder() as server:
        server.drop("connect", farewell=b"220 recor")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader.read() == b"220 recor"
        writer.close()
        await writer.wait_closed()
