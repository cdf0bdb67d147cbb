"""`Postroom`, the client: hand it a message, get a receipt."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from postroom.builtin.memory import Mailbox
from postroom.config.load import load_config
from postroom.config.masking import masked_account, masked_urls
from postroom.config.parts import config_from_parts
from postroom.config.urls import config_from_urls
from postroom.delivery.accounts import Accounts
from postroom.delivery.attempt import check_sendable
from postroom.delivery.bulk import MOST_AT_ONCE, Result, receipt_or_raise, send_each, send_many
from postroom.delivery.checks import check_accounts, validate_accounts
from postroom.delivery.failover import Failover
from postroom.delivery.middleware import SendMiddleware
from postroom.delivery.observers import Observers
from postroom.delivery.preview import preview
from postroom.delivery.receipt_errors import raise_for_receipt
from postroom.delivery.reports import check_report_head, read_reports
from postroom.delivery.routing import Router
from postroom.delivery.transforms import transforms_of
from postroom.errors import PostroomClosed, PostroomError, WrongEventLoop
from postroom.messages import Message
from postroom.outbox.factory import open_outbox, presence
from postroom.registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from postroom.config.model import Config
    from postroom.delivery.accounts import Target
    from postroom.delivery.preview import AccountPreview
    from postroom.events import Event
    from postroom.messages import Email, Sms
    from postroom.outbox.outbox import Outbox
    from postroom.plugin.settings import AccountSettings
    from postroom.plugin.transport import CheckReport, WebhookRequest
    from postroom.receipts import Channel, Receipt


class Postroom:
    """The client: picks an account for each message, sends it once, and returns what became of it.

    `config` is a `Config`; or give its parts: `accounts` (name -> table or settings object), `routes`, `defaults`,
    `rules`, `outbox`. Accounts open when first used; `close` (or `async with`) closes them. One `Postroom` belongs to
    one event loop. Raises ConfigError with the dotted path of a wrong setting.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        accounts: Mapping[str, AccountSettings | Mapping[str, Any]] | None = None,
        routes: Mapping[str, Mapping[str, Any]] | None = None,
        defaults: Mapping[str, str] | None = None,
        rules: Iterable[Mapping[str, Any]] = (),
        outbox: Mapping[str, Any] | None = None,
    ) -> None:
        accounts = {name: masked_account(account) for name, account in (accounts or {}).items()}
        parts = {"accounts": accounts, "routes": routes, "defaults": defaults, "rules": rules, "outbox": outbox}
        self.config = config_from_parts(config, parts)
        self.registry = Registry(self.config.plugins)
        extensions, hooks = self.registry.load_extensions(self.config.plugins.extensions), self.registry.hooks
        around, transforms = SendMiddleware(hooks.around_send(extensions)), transforms_of(hooks, extensions)
        self._observers = Observers(hooks.on_event(extensions))
        self._router = Router(self.config, self.registry)
        self._accounts = Accounts(self.config, self.registry, around, transforms)
        self._failover = Failover(self._router, self._accounts, self._observers, self._existing_outbox)
        self._outbox_exists = presence(self.config.outbox)
        self._outbox: Outbox | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @classmethod
    def from_config(cls, path: str | Path | None = None) -> Self:
        """Read `path`, else POSTROOM_CONFIG, else `./postroom.toml`, and the environment over it."""
        return cls(load_config(path))

    @classmethod
    def from_urls(cls, *urls: str, email: str | None = None, sms: str | None = None) -> Self:
        """Make accounts from URLs such as `smtp://user:pass@host:587`; `email`, `sms` are their channel's default."""
        masked = masked_urls(urls, {"email": email, "sms": sms})
        del urls, email, sms  # no frame of ours keeps a secret in plain text
        return cls(config_from_urls(*masked))

    async def __aenter__(self) -> Self:
        self._check_usable()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every account. Sending afterwards is an error."""
        if not self._closed:
            self._closed, self._loop = True, None
            if self._outbox is not None:
                await self._outbox.close()
            await self._accounts.close()

    @property
    def outbox(self) -> Outbox:
        """The durable store of messages on their way, and what can be asked of it; PostroomClosed after `close`."""
        if self._closed:
            raise PostroomClosed("this Postroom is closed; make a new one to use its outbox")
        if self._outbox is None:
            self._outbox = open_outbox(self.config.outbox, self._accounts, self._router, self._observers)
        return self._outbox

    @property
    def memory(self) -> list[Message]:
        """The messages that accounts of the provider `memory` took, oldest first."""
        return self._accounts.resources.shared(Mailbox)

    async def send(self, message: Email | Sms) -> Receipt:
        """Send `message` now and return what became of it.

        Tries the accounts of its route in order, and goes on to the next only after an attempt that surely was not
        taken. Returns when at least one recipient was accepted (see `Receipt.recipients` for the others). Raises
        DeliveryError, with `.receipt` set, when none was; its `outcome` says whether it may be sent again. Raises
        MessageError, PluginError or ConfigError when nothing was tried, and TypeError for what is no message.

        A `required` message is stored first, and stays in the outbox until it is delivered, refused for good, or
        expired: when it cannot be delivered now, the receipt says `retrying`, and nothing is raised. One with an
        `idempotency_key` is stored too; the same key gives the first receipt again.
        """
        if self._loop is not asyncio.get_running_loop():
            self._check_usable()
        if isinstance(message, Message) and (message.required or message.idempotency_key):
            return raise_for_receipt(await self.outbox.send(message))
        return await self._failover.send(message)

    async def send_many(
        self,
        messages: Iterable[Email | Sms],
        *,
        progress: Callable[[int, Result], None] | None = None,
        at_once: int = MOST_AT_ONCE,
    ) -> list[Result]:
        """Send every message and return one result for each, in their order: a receipt, or the error.

        `progress` is called with the index and the result of each as it is done; `at_once` bounds how many are in
        progress. What `progress` or the iterable raises stops the rest and is raised.
        """
        self._check_usable()
        return await send_many(self.send, messages, progress, at_once=at_once)

    async def send_each(
        self, messages: Iterable[Email | Sms], report: Callable[[int, Result], None], *, at_once: int = MOST_AT_ONCE
    ) -> None:
        """Like `send_many`, for streams too long to keep: each result goes to `report` and is forgotten."""
        self._check_usable()
        await send_each(self.send, messages, report, at_once=at_once)

    async def enqueue(self, message: Email | Sms, *, connection: object = None) -> Receipt:
        """Accept `message` for a worker to deliver (`work`, or `postroom worker`) and return its receipt.

        It is on disk when this returns, `queued`, or `scheduled` for a later `send_at`; with your own `connection`, if
        and when you commit. An idempotency key used for the same message before gives that message's receipt.
        Raises IdempotencyConflict when that was another message, OutboxError when it could not be stored, TypeError for
        a connection of another kind, and what `send` raises when it can never be sent.
        """
        return receipt_or_raise((await self.enqueue_many([check_sendable(message)], connection=connection))[0])

    async def enqueue_many(self, messages: Sequence[Email | Sms], *, connection: object = None) -> list[Result]:
        """Accept messages in one transaction, or in that of `connection`; one receipt or error for each, in order."""
        self._check_usable()
        return await self.outbox.enqueue(messages, connection=connection)

    async def work(self, *, stop: asyncio.Event | None = None, until_empty: bool = False) -> None:
        """Deliver from the outbox until `stop`, or `until_empty`; what is in progress ends first. Any number may."""
        self._check_usable()
        await self.outbox.work(stop=stop, until_empty=until_empty)

    async def check_webhook_head(self, account: str, head: WebhookRequest) -> bool:
        """Return whether a webhook's head alone proves who sends it; raises as `receive` when it cannot be genuine."""
        return await check_report_head(self._accounts, self._router, account, head)

    async def receive(self, account: str, request: WebhookRequest) -> list[Event]:
        """Verify what a provider reports; returns all of it, keeps what is new, tells observers.

        Raises SignatureInvalid, PayloadInvalid, WebhookError, ProviderNotFound and OutboxError.
        """
        self._check_usable()
        await self.outbox.record_all(events := await read_reports(self._accounts, self._router, account, request))
        return events

    def settings(self, target: Target, channel: Channel) -> AccountSettings:
        """Return the validated settings of an account; raises ConfigError or PluginError."""
        return self._accounts.settings(target, channel)

    def targets(self, message: Email | Sms) -> tuple[Target, ...]:
        """Return the accounts that `message`, or its parts by the rules, would be tried at now, in order."""
        return tuple(dict.fromkeys(t for planned in self._router.peek(message) for t in planned.targets))

    def preview(self, message: Email | Sms) -> list[AccountPreview]:
        """Return what each of these accounts would make of `message`; nothing is opened or sent."""
        return preview(self._accounts, self._router, message)

    def validate(self) -> None:
        """Validate every account's settings and every name in use now; raises ConfigError or ProviderNotFound."""
        validate_accounts(self._accounts, self._router)

    async def check(self, account: str | None = None) -> dict[str, CheckReport | PostroomError]:
        """Try the credentials and reachability of one account, or of all; returns a report or error for each."""
        self._check_usable()
        return await check_accounts(self._accounts, self._router, account)

    def _existing_outbox(self) -> Outbox | None:
        """Return the outbox that this or another process made, if any: direct sends heed what it knows."""
        return self.outbox if self._outbox is not None or self._outbox_exists() else None

    def _check_usable(self) -> None:
        """Raise PostroomClosed or WrongEventLoop; the first use binds this to the running loop."""
        if self._closed:
            raise PostroomClosed("this Postroom is closed; make a new one to send again")
        self._loop = self._loop or asyncio.get_running_loop()
        if self._loop is not asyncio.get_running_loop():
            raise WrongEventLoop("this Postroom belongs to another event loop; make one in each loop")
