"""Transport interface: the class a provider plugin implements for each channel it carries."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from postroom.errors import DeliveryError, PayloadInvalid
from postroom.messages import Email, Message, Sms
from postroom.plugin.settings import AccountSettings
from postroom.receipts import Accepted, Channel, NotTaken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from postroom.events import Event
    from postroom.plugin.resources import Resources

INTERFACE_VERSION = 1
"""The plugin interface this release speaks; a plugin module may state `postroom_interface = 1`."""

EMAIL_FEATURES = frozenset(
    {"cc", "bcc", "reply_to", "html", "attachments", "inline", "headers", "tags", "metadata", "template"}
) | {"merge_data", "calendar", "amp", "send_at", "priority", "provider_options", "international_addresses"}
SMS_FEATURES = frozenset({"media", "send_at", "provider_options", "whatsapp"})

LARGEST_WEBHOOK = 1_048_576
"""Bytes of a webhook that nothing but its body proves; the largest known (SendGrid's) have 768 kB."""

T = TypeVar("T")
SettingsT = TypeVar("SettingsT", bound=AccountSettings)
MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a transport can express; a message that asks for more is refused before anything is sent.

    `features` are words of EMAIL_FEATURES or SMS_FEATURES. `max_batch` is how many messages one `send_many`
    takes; `max_recipients` how many recipients one message may have (an SMS to more is split by the core).
    `partial_envelope`: the transport sends to `message.recipients`, which may be fewer than `to`, `cc` and
    `bcc` name. `deduplicates`: the provider itself refuses a second copy of one `message.id`. `reconciles`:
    `reconcile` can find out what became of an unknown outcome.
    """

    features: frozenset[str] = frozenset()
    max_batch: int = 1
    max_recipients: int | None = None
    partial_envelope: bool = False
    deduplicates: bool = False
    reconciles: bool = False


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found: whether the account could send now, and the facts it saw, free of secrets."""

    ok: bool
    summary: str
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """An incoming request as it came: `body` is raw, header names are lower-case, `url` is the public one."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class UnknownAttempt(Generic[MessageT]):
    """What `reconcile` is asked about: a hand-over that nobody heard the end of.

    `message` is what was handed over, as the transport saw it: its `recipients` are those of this attempt.
    `started_at` is when the hand-over began (UTC); it ended, or its process did, within the time limits of the account.
    """

    message: MessageT
    started_at: datetime


class Transport(ABC, Generic[SettingsT, MessageT]):
    """One account of a provider, for one channel.

    A subclass names `settings_model`, `capabilities` and `provider`, and implements `send`. It is made when
    the account is first used, `open`ed once inside the running loop, and `close`d with the `Postroom`.
    Retries are the core's: a transport tries once and raises a DeliveryError whose outcome is true.
    """

    settings_model: ClassVar[type[AccountSettings]]
    capabilities: ClassVar[Capabilities] = Capabilities()
    channel: ClassVar[Channel]
    keeps_timeout: ClassVar[bool] = False
    """True when `send` bounds its own waiting, and so knows where the time ran out; else the core ends it.

    The bound is `settings.timeout`, or what the plugin documents, such as SMTP's ten minutes for the last reply.
    """
    confirms: ClassVar[bool] = False
    """True when `send` itself awaits `confirmation()` immediately before the provider could take the message.

    For transports in which messages wait, for a connection say; the core awaits it before `send` for all others.
    """
    deviations: ClassVar[Mapping[str, str]] = {}
    """Tests of the conformance kit that this provider cannot pass -> why; `postroom providers` shows them."""

    def __init__(self, account: str, settings: SettingsT, resources: Resources) -> None:
        self.account = account
        self.settings = settings
        self.resources = resources
        self.log = logging.getLogger(f"postroom.{settings.provider}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} account={self.account!r}>"

    @property
    def at_once(self) -> int:
        """How many messages can really be on their way at one time; a worker takes no more out of the outbox.

        Override it where more than these would wait inside the transport, surely not handed over yet.
        """
        return self.settings.concurrency * self.capabilities.max_batch

    async def open(self) -> None:
        """Make ready; called once, before the first send, inside the loop that sends."""

    async def close(self) -> None:
        """Release what `open` took; nothing is sent afterwards."""

    @abstractmethod
    async def send(self, message: MessageT, /) -> Accepted:
        """Hand one message to the provider, once.

        Returns what the provider accepted, with a result per recipient where they differ; raises a
        DeliveryError when no recipient was accepted.
        """

    async def send_many(self, batch: Sequence[MessageT], /) -> list[Accepted | DeliveryError]:
        """Hand over up to `capabilities.max_batch` messages; one result per message, in their order."""
        results: list[Accepted | DeliveryError] = []
        for message in batch:
            try:
                results.append(await self.send(message))
            except DeliveryError as error:
                results.append(error)
        return results

    def validate(self, message: MessageT, /) -> None:
        """Refuse, before anything is sent, what this provider cannot take; raise a MessageError.

        For limits that `Capabilities` cannot say; called after they were checked.
        """

    def check_webhook_head(self, head: WebhookRequest, /) -> bool:
        """Refuse, before its body is read, what cannot be the provider's; raise SignatureInvalid.

        `head.body` is empty. Returns True when the head alone proves who sends it, such as by a secret; else False,
        and the body may have up to `LARGEST_WEBHOOK` bytes.
        """
        del head
        return False

    def parse_webhook(self, request: WebhookRequest, /) -> list[Event]:
        """Verify the signature on the raw body first, then read the events."""
        del request
        raise PayloadInvalid(f"{self.settings.provider} reports no events for {self.channel}")

    async def reconcile(self, attempt: UnknownAttempt[MessageT], /) -> Accepted | NotTaken | None:
        """Find out what became of an attempt of unknown outcome; None when that is not known (yet).

        Called again later after None, so answer `NotTaken` only when the provider would surely know by now:
        the message is sent again then. Raises DeliveryError when the provider cannot be asked.
        """
        del attempt
        return None

    async def check(self) -> CheckReport:
        """Try credentials and reachability; sends nothing."""
        return CheckReport(ok=True, summary="configured; this provider has no check of its own")

    async def encoded(self, encode: Callable[[], T], *emails: Email) -> T:
        """Return what `encode` makes of e-mails before they are handed over: of large ones in a thread.

        It is not called for two large ones at a time, whatever their accounts; what it raises is let through.
        """
        from postroom.plugin.encoding import Encoder, weight_of  # noqa: PLC0415 - asyncio, only where something is sent

        return await self.resources.shared(Encoder).run(encode, sum(map(weight_of, emails)))


class EmailTransport(Transport[SettingsT, Email]):
    """Carries e-mail."""

    channel = Channel.EMAIL

    def write(self, email: Email, *, smtputf8: bool = False) -> bytes:
        """Return `email` as the bytes that travel, as extensions leave them (`postroom_transform_content`).

        For transports that hand over bytes rather than fields. Arguments and errors are those of
        `postroom.mime.to_bytes`; what an extension raises means that nothing was sent: let it through.
        """
        from postroom.mime import to_bytes  # noqa: PLC0415 - only where bytes are written

        return self.resources.transformed(to_bytes(email, smtputf8=smtputf8), email, self.account)


class SmsTransport(Transport[SettingsT, Sms]):
    """Carries SMS; sees one recipient per message unless `capabilities.max_recipients` says otherwise."""

    channel = Channel.SMS
    capabilities = Capabilities(max_recipients=1)
