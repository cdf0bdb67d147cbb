"""Envelope and content: an e-mail as SMTP carries it, addresses, and content ready to follow DATA."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from postroom.errors import MessageError, UnsupportedFeature
from postroom.mime import needs_smtputf8, to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from postroom.addresses import Address
    from postroom.messages import Email
    from postroom_smtp.options import Dsn


class Write(Protocol):
    """What makes the bytes of an e-mail, such as `to_bytes`."""

    def __call__(self, email: Email, /, *, smtputf8: bool) -> bytes: ...


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Extensions:
    """The parts of a server's EHLO answer that change how a message is sent.

    `size` is the largest message in octets, 0 when there is no fixed limit, None without the extension.
    """

    pipelining: bool = False
    size: int | None = None
    eight_bit: bool = False
    utf8: bool = False
    dsn: bool = False

    @classmethod
    def of(cls, offered: Mapping[str, str]) -> Extensions:
        """Read keywords (lower-case) and their parameters."""
        size = offered.get("size")
        return cls(
            pipelining="pipelining" in offered,
            size=None if size is None else int(size) if size.isascii() and size.isdigit() else 0,
            eight_bit="8bitmime" in offered,
            utf8="smtputf8" in offered,
            dsn="dsn" in offered,
        )


@dataclass(frozen=True, slots=True)
class PreparedMessage:
    """One message, prepared once, for whatever session takes it.

    `recipients` maps each address to its form on the wire. `content` is dot-stuffed and ends in the final
    dot; `size` is its length before that, which is what SIZE counts (RFC 1870).
    """

    sender: bytes
    recipients: Mapping[str, bytes]
    content: bytes
    size: int
    eight_bit: bool
    smtputf8: bool
    dsn: Dsn | None
    message_id: str | None

    def envelope(self, asked: Sequence[str], server: Extensions) -> list[bytes]:
        """Return MAIL, a RCPT for each of `asked`, and DATA."""
        if self.dsn is None:
            rcpts = [b"RCPT TO:<%b>\r\n" % self.recipients[address] for address in asked]
        else:
            rcpts = [self._rcpt_with_dsn(self.recipients[address], self.dsn) for address in asked]
        return [self._mail(server), *rcpts, b"DATA\r\n"]

    def refuse_unsuited(self, server: Extensions, account: str) -> None:
        """Raise UnsupportedFeature or MessageError for what this server has announced it will not take."""
        if server.size and self.size > server.size:
            raise MessageError(
                f"{account}: the message has {self.size:,} octets and the server takes {server.size:,}; nothing was "
                "sent, send a link to the large attachment instead"
            )
        if self.smtputf8 and not server.utf8:
            raise _unsupported(account, "international_addresses", "SMTPUTF8", "use ASCII addresses")
        if self.eight_bit and not (server.eight_bit or self.smtputf8):
            raise _unsupported(account, "8bit", "8BITMIME", "use another account")
        if self.dsn and not server.dsn:
            raise _unsupported(account, "provider_options", "DSN", "leave provider_options.dsn out")

    def _mail(self, server: Extensions) -> bytes:
        size = b" SIZE=%d" % self.size if server.size is not None else b""
        body = b" BODY=8BITMIME" if self.eight_bit and server.eight_bit else b""
        utf8 = b" SMTPUTF8" if self.smtputf8 else b""
        dsn = self.dsn.mail_parameters() if self.dsn else b""
        return b"MAIL FROM:<%b>%b%b%b%b\r\n" % (self.sender, size, body, utf8, dsn)

    def _rcpt_with_dsn(self, address: bytes, dsn: Dsn) -> bytes:
        return b"RCPT TO:<%b>%b\r\n" % (address, dsn.rcpt_parameters(address))


def prepare(
    email: Email, dsn: Dsn | None, return_path: str | None = None, *, write: Write = to_bytes
) -> PreparedMessage:
    """Prepare `email` for the recipients it is for; `return_path` is the envelope sender, else its sender is.

    `write` makes its bytes. Raises MessageError, and what `write` raises.
    """
    if email.from_ is None:
        raise MessageError("the e-mail has no sender; give it from, or set it on the account")
    known = {address.email: address for address in (*email.to, *email.cc, *email.bcc)}
    sender = return_path.encode() if return_path else _path(email.from_)
    recipients = {address: _path(known[address]) for address in email.recipients}
    utf8 = needs_smtputf8(email)
    content = with_crlf(write(email, smtputf8=utf8))
    return PreparedMessage(
        sender=sender,
        recipients=recipients,
        content=dot_stuffed(content),
        size=len(content),
        eight_bit=not content.isascii(),
        smtputf8=utf8,
        dsn=dsn,
        message_id=email.message_id,
    )


def with_crlf(content: bytes) -> bytes:
    """Return `content` with every line ended by CRLF, the last one too.

    A lone CR or LF would let one server see the end of the message where another does not (CVE-2023-51764).
    """
    ends = content.count(b"\r\n")
    if content.count(b"\n") != ends or content.count(b"\r") != ends:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def dot_stuffed(content: bytes) -> bytes:
    """Double the dot that begins a line, and add the one that ends the message (RFC 5321 section 4.5.2)."""
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def _path(address: Address) -> bytes:
    """The address between the angle brackets: domains in IDNA form wherever that is possible."""
    if _CONTROL.search(address.email):
        raise MessageError("an address contains a control character; nothing was sent")
    path = address.email if address.email.isascii() else address.ascii_email or address.email
    return path.encode()


def _unsupported(account: str, feature: str, extension: str, advice: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"{account}: the server does not offer {extension}, which the message needs; nothing was sent, {advice}",
        feature=feature,
        provider="smtp",
    )
