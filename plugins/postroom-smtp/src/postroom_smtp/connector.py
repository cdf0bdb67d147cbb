"""Connection set-up: connect, greeting, EHLO, TLS, AUTH. aiosmtplib does it, once per connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import aiosmtplib
from pydantic import SecretStr

from postroom.errors import DeliveryError, Outcome
from postroom_smtp.dialing import Dialer
from postroom_smtp.envelope import Extensions
from postroom_smtp.replies import SmtpReply
from postroom_smtp.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from postroom_smtp.errors import SmtpErrors
    from postroom_smtp.settings import SmtpSettings

PASSWORD_MECHANISMS = ("plain", "login", "cram-md5")
"""Best first. All are safe under TLS only, and PLAIN is the one that every server gets right (RFC 4954)."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection on which MAIL may follow. `offered` is EHLO's answer: keyword -> parameters."""

    transport: asyncio.Transport
    banner: str
    offered: Mapping[str, str]
    mechanisms: tuple[str, ...]

    @property
    def extensions(self) -> Extensions:
        return Extensions.of(self.offered)

    @property
    def tls_version(self) -> str | None:
        found = self.transport.get_extra_info("ssl_object")
        return found.version() if found else None


class Connector:
    """Opens connections for one account."""

    def __init__(self, settings: SmtpSettings, errors: SmtpErrors, context: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._errors = errors
        self._context = context
        self._dialer = Dialer(settings.host, settings.port)

    async def connect(self) -> Connection:
        """Return a connection that is ready within `timeout`.

        Raises ProviderUnreachable, ProviderUnavailable or AuthenticationFailed; nothing was sent.
        """
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            local_hostname=settings.ehlo_name,
            timeout=settings.timeout,
            use_tls=settings.tls == "implicit",
            start_tls=False,
            tls_context=self._context,
        )
        try:
            async with asyncio.timeout(settings.timeout):
                client.sock = await self._dialer.connect()
                return await self._ready(client)
        except BaseException as error:
            if client.transport is not None:
                cast("asyncio.Transport", client.transport).abort()
            elif client.sock is not None:
                client.sock.close()
            client.close()
            if isinstance(error, (aiosmtplib.SMTPException, OSError, UnicodeError)):
                raise self._translated(error) from _without_secrets(error)
            raise

    async def _ready(self, client: aiosmtplib.SMTP) -> Connection:
        banner = await client.connect()
        await self._greet(client)
        if self._settings.tls in ("starttls", "opportunistic"):
            await self._upgrade(client)
        if self._settings.username is not None:
            await self._sign_in(client, self._settings.username)
        if client.transport is None or client.transport.is_closing():
            raise self._errors.unreachable("closed the connection")
        return Connection(
            transport=cast("asyncio.Transport", client.transport),
            banner=self._errors.redact(banner.message),
            offered=dict(client.esmtp_extensions),
            mechanisms=tuple(client.server_auth_methods),
        )

    async def _greet(self, client: aiosmtplib.SMTP) -> None:
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            # RFC 5321 section 3.2: a server without EHLO gets HELO, and then offers no extension.
            if error.code not in (500, 501, 502, 504) or self._settings.tls in ("starttls", "implicit"):
                raise
            await client.helo()

    async def _upgrade(self, client: aiosmtplib.SMTP) -> None:
        if client.supports_extension("starttls"):
            await client.starttls()
            await client.ehlo()
        elif self._settings.tls == "starttls":
            raise self._errors.unreachable(
                "does not offer STARTTLS",
                outcome=Outcome.PERMANENT,
                advice='set tls = "implicit" if this is port 465, or ask who runs the server why it has no TLS',
            )

    async def _sign_in(self, client: aiosmtplib.SMTP, username: str) -> None:
        """One AUTH with the best mechanism: a wrong password is tried once."""
        if client.get_transport_info("sslcontext") is None and not is_loopback(self._settings.host):
            raise self._errors.credentials(
                "offers no TLS, so the password was not sent; set tls to starttls or implicit, or drop the username"
            )
        mechanism = self._mechanism(client)
        try:
            if mechanism == "xoauth2":
                await client.auth_xoauth2(username, await self._token())
            else:
                assert self._settings.password is not None
                auth = {"plain": client.auth_plain, "login": client.auth_login, "cram-md5": client.auth_crammd5}
                await auth[mechanism](username, self._settings.password.get_secret_value())
        except aiosmtplib.SMTPAuthenticationError as error:
            raise self._not_signed_in(error) from None

    def _mechanism(self, client: aiosmtplib.SMTP) -> str:
        wanted = PASSWORD_MECHANISMS if self._settings.oauth_token is None else ("xoauth2",)
        for mechanism in wanted:
            if mechanism in client.server_auth_methods:
                return mechanism
        offered = ", ".join(client.server_auth_methods).upper() or "no AUTH at all"
        raise self._errors.credentials(
            f"offers {offered}, and this account needs {' or '.join(wanted).upper()}; nothing was sent, "
            "check tls, port and the credentials"
        )

    async def _token(self) -> str:
        source = self._settings.oauth_token
        if isinstance(source, SecretStr):
            return source.get_secret_value()
        assert source is not None
        try:
            token = await source()
        except Exception as error:  # noqa: BLE001 - a caller's code, whose text may hold the token
            raise self._errors.unreachable(
                f"was not signed in to: oauth_token raised {type(error).__name__}",
                advice="see that a token can be had",
            ) from None
        self._errors.also_hide(token)
        return token

    def _not_signed_in(self, error: aiosmtplib.SMTPAuthenticationError) -> DeliveryError:
        """RFC 4954 section 6: any 5yz refuses the credentials; 4yz, such as 454, is a matter of time."""
        reply = _reply(error)
        known = self._errors.refused(reply, "AUTH")
        if reply.code < 500:
            return known if reply.code >= 400 else self._gibberish(reply)
        return self._errors.credentials_refused(reply)

    def _translated(self, error: Exception) -> DeliveryError:
        cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPConnectError) and error.__cause__ else error
        if isinstance(error, aiosmtplib.SMTPResponseException):
            return self._refused_session(_reply(error))
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return self._untrusted(cause)
        if isinstance(cause, TimeoutError):
            return self._errors.unreachable(f"was not ready within {self._settings.timeout:g} s")
        if isinstance(cause, socket.gaierror):
            return self._errors.unreachable(f"cannot be found: {cause.strerror}")
        return self._errors.unreachable(f"could not be connected: {cause}")

    def _refused_session(self, reply: SmtpReply) -> DeliveryError:
        """A negative greeting, EHLO or STARTTLS: 4yz for now; 5yz, such as 554, is for this account to solve."""
        return self._errors.session(reply) if reply.negative else self._gibberish(reply)

    def _gibberish(self, reply: SmtpReply) -> DeliveryError:
        return self._errors.unreachable(
            f"does not speak SMTP: {reply.words or reply.code}", advice="check host, port and tls, or try again later"
        )

    def _untrusted(self, error: ssl.SSLError) -> DeliveryError:
        why = getattr(error, "verify_message", "") or error.reason or str(error)
        return self._errors.unreachable(
            f"gave no trusted TLS connection: {why}",
            outcome=Outcome.PERMANENT,
            advice="check host, port and tls, and set SSL_CERT_FILE if the server has a private certificate authority",
        )


def _reply(error: aiosmtplib.SMTPResponseException) -> SmtpReply:
    return SmtpReply(error.code, error.message.encode("utf-8", "surrogateescape"))


def _without_secrets(error: BaseException) -> BaseException | None:
    """The cause to chain: a server's own words may quote what AUTH sent, so those stay out."""
    return None if isinstance(error, aiosmtplib.SMTPResponseException) else error
