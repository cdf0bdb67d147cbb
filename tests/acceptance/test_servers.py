"""The servers that stand for providers keep to the protocol: what they get wrong would be laid at the workers' door."""

from __future__ import annotations

import asyncio

from ordeal.servers import MailServer


async def test_a_server_that_takes_its_time_answers_pipelined_commands_in_their_order() -> None:
    """RFC 2920 section 3.2: replies come in the order of the commands."""
    content = b"Subject: x\r\nMessage-ID: <1@example.org>\r\n\r\nx\r\n.\r\n"
    async with MailServer(delay=0.05) as mail:
        reader, writer = await asyncio.open_connection("127.0.0.1", mail.port)
        writer.write(b"EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
        await reader.readuntil(b"354 Go on\r\n")
        writer.write(content + b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
        answers = await reader.readuntil(b"354 Go on\r\n")
        writer.close()
        await writer.wait_closed()
    assert answers == b"250 2.0.0 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go on\r\n"
