"""One client's connection to the loopback SMTP server."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from postroom.testing.smtp_script import RecordedMessage

if TYPE_CHECKING:
    import ssl

    from postroom.testing.smtp_script import Script, Stage

_PATH = re.compile(rb"(?:MAIL FROM|RCPT TO):\s*<(.*?)>\s*(.*)", re.IGNORECASE | re.DOTALL)
_USUAL: dict[str, bytes] = {
    "connect": b"220 recorder ESMTP",
    "mail": b"250 2.1.0 Ok",
    "rcpt": b"250 2.1.5 Ok",
    "data": b"354 End data with <CR><LF>.<CR><LF>",
    "rset": b"250 2.0.0 Ok",
    "noop": b"250 2.0.0 Ok",
    "quit": b"221 2.0.0 Bye",
}


@dataclass(slots=True)
class _Envelope:
    sender: str
    mail_options: str
    recipients: list[str] = field(default_factory=list)
    rcpt_options: list[str] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One client. Commands are handled as they come; the answers to one piece of input leave in one write."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._buffer = bytearray()
        self._answers: list[bytes] = []
        self._number = 0
        self._tls = False
        self._user: str | None = None
        self._envelope: _Envelope | None = None
        self._in_content = False
        self._half_seen = False
        self._login: list[str] | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self._handlers = {
            b"EHLO": self._ehlo,
            b"HELO": self._helo,
            b"STARTTLS": self._starttls,
            b"AUTH": self._auth,
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"RSET": self._rset,
            b"NOOP": self._noop,
            b"QUIT": self._quit,
        }

    # --- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        upgraded = self._number > 0
        self._transport = cast("asyncio.Transport", transport)
        self._tls = transport.get_extra_info("sslcontext") is not None
        if not upgraded:
            self._script.connections += 1
            self._number = self._script.connections
            self._script.opened.add(self)
            self._script.changed.set()
            self._at("connect", b"")
            self._flush()

    def data_received(self, data: bytes) -> None:
        self._script.reads += 1
        self._buffer += data
        if self._stalled is None and self._upgrade is None:
            self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._stalled is not None:
            self._stalled.cancel()
        self._script.opened.discard(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def abort(self) -> None:
        if self._upgrade is not None:
            self._upgrade.cancel()
        if self._transport is not None:
            self._transport.abort()

    def hang_up(self, farewell: bytes) -> None:
        self._transport.write(farewell)
        self._transport.close()

    # --- input

    def _work(self) -> None:
        while not self._transport.is_closing() and self._stalled is None and self._upgrade is None:
            if not (self._take_content() if self._in_content else self._take_command()):
                break
        self._flush()
        self._script.changed.set()

    def _take_command(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0:
            return False
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        if self._login is not None:
            self._go_on_with_login(line)
            return True
        self._script.commands.append(line.decode("utf-8", "replace"))
        verb = line.split(b" ", 1)[0].split(b":", 1)[0].upper()
        self._handlers.get(verb, self._unknown)(line)
        return True

    def _take_content(self) -> bool:
        if not self._half_seen and self._buffer:
            self._half_seen = True
            self._at("half-body", b"")
            if self._stalled is not None or self._transport.is_closing():
                return False
        if self._buffer.startswith(b".\r\n"):
            end, skipped = 0, 3
        else:
            end, skipped = self._buffer.find(b"\r\n.\r\n") + 2, 3
        if end == 1:
            return False
        data = bytes(self._buffer[:end])
        del self._buffer[: end + skipped]
        self._end_content(data.removeprefix(b".") if data.startswith(b"..") else data)
        return True

    def _end_content(self, data: bytes) -> None:
        assert self._envelope is not None
        envelope, self._envelope, self._in_content = self._envelope, None, False
        message = RecordedMessage(
            sender=envelope.sender,
            recipients=tuple(envelope.recipients),
            data=data.replace(b"\r\n..", b"\r\n."),
            tls=self._tls,
            user=self._user,
            connection=self._number,
            mail_options=envelope.mail_options,
            rcpt_options=tuple(envelope.rcpt_options),
        )
        queued = b"250 2.0.0 Ok: queued as %06d\r\n" % (len(self._script.messages) + 1)
        self._script.messages.append(message)
        answer = self._at("dot", data, queued)
        if answer is not None and answer[:1] in (b"4", b"5"):
            self._script.messages.remove(message)

    # --- answers

    def _at(self, stage: Stage, line: bytes, usual: bytes | None = None) -> bytes | None:
        """Do what the script says at `stage`, else give the usual answer. Returns the answer given."""
        step = self._script.take_step(stage, line)
        answer = usual if usual is not None else _USUAL[stage] + b"\r\n" if stage in _USUAL else b""
        if step is not None and step.drop:
            if step.reply is not None:
                self._answers.append(step.reply)
            self._break(reset=step.reset)
            return None
        if step is not None and step.delay:
            self._stall(step.delay, answer)
            return answer
        if step is not None and step.reply is not None:
            answer = step.reply
        self._answers.append(answer)
        if answer.startswith(b"421"):
            self._flush()
            self._transport.close()
        return answer

    def _stall(self, seconds: float, answer: bytes) -> None:
        self._flush()
        self._transport.pause_reading()
        self._stalled = self._loop.call_later(seconds, self._resume, answer)

    def _resume(self, answer: bytes) -> None:
        self._stalled = None
        self._transport.resume_reading()
        self._answers.append(answer)
        self._work()

    def _break(self, *, reset: bool) -> None:
        self._flush()
        if reset:
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()

    def _flush(self) -> None:
        if self._answers and not self._transport.is_closing():
            self._transport.write(b"".join(self._answers))
        self._answers.clear()

    # --- commands

    def _unknown(self, line: bytes) -> None:
        del line
        self._answers.append(b"500 5.5.2 Unknown command\r\n")

    def _ehlo(self, line: bytes) -> None:
        self._envelope = None
        offered = list(self._script.extensions)
        if self._script.tls is not None and not self._tls:
            offered.append("STARTTLS")
        if self._script.auth:
            offered.append(f"AUTH {' '.join(self._script.mechanisms)}")
        lines = ["recorder", *offered]
        marks = ["-"] * (len(lines) - 1) + [" "]
        self._at("ehlo", line, b"".join(f"250{m}{text}\r\n".encode() for m, text in zip(marks, lines, strict=True)))

    def _helo(self, line: bytes) -> None:
        self._at("ehlo", line, b"250 recorder\r\n")

    def _starttls(self, line: bytes) -> None:
        if self._script.tls is None or self._tls:
            self._answers.append(b"503 5.5.1 TLS not available\r\n")
            return
        answer = self._at("starttls", line, b"220 2.0.0 Ready to start TLS\r\n")
        if answer is not None and answer.startswith(b"220") and self._stalled is None:
            self._flush()
            self._buffer.clear()
            self._upgrade = self._loop.create_task(self._start_tls(self._script.tls))

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        try:
            upgraded = await self._loop.start_tls(self._transport, self, context, server_side=True)
        except (OSError, ConnectionError):
            self._transport.abort()
            return
        finally:
            self._upgrade = None
        if upgraded is not None:
            self.connection_made(upgraded)
            self._work()

    def _auth(self, line: bytes) -> None:
        _, mechanism, *rest = [*line.split(), b""][:4]
        if self._script.steps.get("auth"):
            answer = self._at("auth", line, b"235 2.7.0 Ok\r\n")
            self._user = "scripted" if answer is not None and answer.startswith(b"235") else None
        elif mechanism.upper() == b"LOGIN":
            self._login = [_decoded(rest[0])] if rest and rest[0] else []
            self._answers.append(b"334 UGFzc3dvcmQ6\r\n" if self._login else b"334 VXNlcm5hbWU6\r\n")
        else:
            self._sign_in(*_credentials(mechanism, rest[0] if rest else b""))

    def _go_on_with_login(self, line: bytes) -> None:
        assert self._login is not None
        self._login.append(_decoded(line))
        if len(self._login) == 1:
            self._answers.append(b"334 UGFzc3dvcmQ6\r\n")
            return
        user, password = self._login
        self._login = None
        self._sign_in(user, password)

    def _sign_in(self, user: str, secret: str) -> None:
        if secret and self._script.auth.get(user) == secret:
            self._user = user
            self._answers.append(b"235 2.7.0 Authentication successful\r\n")
        else:
            self._answers.append(b"535 5.7.8 Authentication credentials invalid\r\n")

    def _mail(self, line: bytes) -> None:
        if self._script.auth and self._user is None:
            self._answers.append(b"530 5.7.0 Authentication required\r\n")
            return
        if self._envelope is not None:
            self._answers.append(b"503 5.5.1 Nested MAIL command\r\n")
            return
        answer = self._at("mail", line)
        found = _PATH.match(line)
        if found and answer is not None and answer.startswith(b"2"):
            self._envelope = _Envelope(_text(found[1]), _text(found[2]))

    def _rcpt(self, line: bytes) -> None:
        if self._envelope is None:
            self._answers.append(b"503 5.5.1 Need MAIL command\r\n")
            return
        answer = self._at("rcpt", line)
        found = _PATH.match(line)
        if found and answer is not None and answer.startswith(b"2"):
            self._envelope.recipients.append(_text(found[1]))
            self._envelope.rcpt_options.append(_text(found[2]))

    def _data(self, line: bytes) -> None:
        usual = None if self._envelope and self._envelope.recipients else b"554 5.5.1 No valid recipients\r\n"
        answer = self._at("data", line, usual)
        if answer is not None and answer.startswith(b"354"):
            self._in_content, self._half_seen = True, False
            self._envelope = self._envelope or _Envelope("", "")

    def _rset(self, line: bytes) -> None:
        self._envelope = None
        self._at("rset", line)

    def _noop(self, line: bytes) -> None:
        self._at("noop", line)

    def _quit(self, line: bytes) -> None:
        self._at("quit", line)
        if self._stalled is None:
            self._flush()
            self._transport.close()


def _credentials(mechanism: bytes, given: bytes) -> tuple[str, str]:
    """Read the initial response of PLAIN (RFC 4616) or XOAUTH2 (Google, "OAuth 2.0 Mechanism")."""
    text = _decoded(given)
    if mechanism.upper() == b"XOAUTH2":
        found = re.fullmatch("user=(.*?)\1auth=Bearer (.*?)\1\1", text)
        return (found[1], found[2]) if found else ("", "")
    parts = text.split("\0")
    return (parts[1], parts[2]) if len(parts) == 3 else ("", "")


def _decoded(given: bytes) -> str:
    try:
        return base64.b64decode(given, validate=True).decode("utf-8", "replace")
    except binascii.Error:
        return ""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
