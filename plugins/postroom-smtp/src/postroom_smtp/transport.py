"""The SMTP transport: prepares an e-mail and gives it to the pool."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from postroom.plugin import EMAIL_FEATURES, Capabilities, CheckReport, EmailTransport
from postroom_smtp.envelope import PreparedMessage, prepare
from postroom_smtp.errors import SmtpErrors
from postroom_smtp.options import read_dsn
from postroom_smtp.pool import Pool
from postroom_smtp.settings import SmtpSettings
from postroom_smtp.timeouts import Timeouts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from postroom.events import Event
    from postroom.messages import Email
    from postroom.plugin import Resources, WebhookRequest
    from postroom.receipts import Accepted
    from postroom_smtp.connector import Connection, Connector

NOT_IN_SMTP = frozenset({"template", "merge_data", "send_at", "tags", "metadata"})

PREFETCH = 8
"""Messages a worker keeps ready for each connection, the one on the wire included."""


class SmtpEmail(EmailTransport[SmtpSettings]):
    """Sends e-mail over SMTP: pooled connections, pipelined where the server can.

    `provider_message_id` is the Message-ID, which is what reports and servers' logs name.
    """

    settings_model = SmtpSettings
    capabilities = Capabilities(features=EMAIL_FEATURES - NOT_IN_SMTP, partial_envelope=True)
    keeps_timeout = True
    confirms = True
    deviations: ClassVar[Mapping[str, str]] = {
        "test_a_tampered_webhook_is_refused": "bounces come from a mail server that presents a secret; it signs nothing"
    }

    def __init__(self, account: str, settings: SmtpSettings, resources: Resources) -> None:
        super().__init__(account, settings, resources)
        self._errors = SmtpErrors(account, settings)
        self._connector: Connector | None = None
        self._pool: Pool | None = None

    @property
    def at_once(self) -> int:
        """What keeps every connection of the pool fed; more would wait for one, surely not handed over."""
        return min(self.settings.concurrency, self.settings.pool * PREFETCH)

    async def open(self) -> None:
        """Make the pool; connections are opened when messages come."""
        self._pool = self._new_pool(await self._ready_connector())

    async def close(self) -> None:
        """Let what is on the wire end, and say QUIT on every connection."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def validate(self, email: Email, /) -> None:
        """Refuse `provider_options` that SMTP does not know."""
        read_dsn(self.account, email.provider_options)

    async def send(self, email: Email, /) -> Accepted:
        """Hand `email` over, to `email.recipients` only; see the package's README for every outcome."""
        if self._pool is None:
            raise self._errors.unreachable("is not open", advice="open the account first")
        return await self._pool.deliver(await self._prepare(email))

    def check_webhook_head(self, head: WebhookRequest, /) -> bool:
        """Return True for the account's mail server, which presents `bounce_secret`; else raises SignatureInvalid."""
        from postroom_smtp import bounces  # noqa: PLC0415 - the parser of mail, only where bounces come in

        bounces.verify(self.account, self.settings, head)
        return True

    def parse_webhook(self, request: WebhookRequest, /) -> list[Event]:
        """Read a bounce or a complaint that came by mail; raises SignatureInvalid or PayloadInvalid."""
        from postroom_smtp import bounces  # noqa: PLC0415 - the parser of mail, only where bounces come in

        return bounces.read(self.account, self.settings, request)

    async def check(self) -> CheckReport:
        """Connect, upgrade, sign in and say QUIT. Raises what keeps the account from sending."""
        connector = await self._ready_connector()
        connection = await connector.connect()
        report = _report(self._errors.server, connection)
        pool = self._new_pool(connector)
        pool.keep(connection)
        await pool.close()
        return report

    def _new_pool(self, connector: Connector) -> Pool:
        timeouts = Timeouts(self.settings.timeout, self.settings.final_timeout)
        return Pool(self.settings.pool, connector.connect, self._errors, timeouts)

    async def _prepare(self, email: Email) -> PreparedMessage:
        dsn = read_dsn(self.account, email.provider_options) if email.provider_options else None
        paths = self.settings.return_paths
        return_path = paths.path_for(email.id) if paths else None
        return await self.encoded(partial(prepare, email, dsn, return_path, write=self.write), email)

    async def _ready_connector(self) -> Connector:
        if self._connector is None:
            from postroom_smtp.connector import Connector  # noqa: PLC0415 - aiosmtplib only when the account is used

            plain = self.settings.tls == "none"
            # Reading the certificate authorities takes tens of milliseconds, so once and not in the loop.
            context = None if plain else await asyncio.to_thread(_trusting_context)
            self._connector = Connector(self.settings, self._errors, context)
        return self._connector


def _trusting_context() -> ssl.SSLContext:
    """RFC 9525 section 6.3: a name counts only where the certificate lists it, not as its subject's common name."""
    context = ssl.create_default_context()
    context.hostname_checks_common_name = False
    return context


def _report(server: str, connection: Connection) -> CheckReport:
    tls = connection.tls_version or "none"
    return CheckReport(
        ok=True,
        summary=f"{server} takes mail ({tls if connection.tls_version else 'without TLS'})",
        details={
            "banner": connection.banner,
            "tls": tls,
            "extensions": ", ".join(sorted(connection.offered)).upper(),
            "auth": ", ".join(connection.mechanisms).upper(),
            "largest_message": connection.offered.get("size", ""),
        },
    )
