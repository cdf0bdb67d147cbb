"""`Postroom`: hand it a message, get a receipt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sized
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from postroom.builtin.memory import Mailbox
from postroom.config.load import load_config
from postroom.config.model import Config, parse_config
from postroom.config.urls import config_from_urls
from postroom.delivery.accounts import Accounts, Target
from postroom.delivery.attempt import event_of, hand_over
from postroom.delivery.middleware import Observers, SendMiddleware
from postroom.delivery.preparing import check_sendable
from postroom.delivery.progress import DeliveryProgress
from postroom.delivery.routing import Router
from postroom.errors import ConfigError, DeliveryError, MessageError, PluginError, PostroomError, WebhookError
from postroom.messages import Email, Message, Sms, new_id
from postroom.receipts import Channel, Receipt
from postroom.registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from postroom.events import Event
    from postroom.outbox.outbox import Outbox
    from postroom.plugin.settings import AccountSettings
    from postroom.plugin.transport import CheckReport, WebhookRequest

_log = logging.getLogger("postroom")

MOST_AT_ONCE = 1000
"""Messages of one `send_many` that are on their way together; accounts set their own, tighter limits."""

Result = Receipt | PostroomError


class Postroom:
    """The front desk: picks an account for each message, hands it over once, and tells what became of it.

    `config` is a `Config`; or give its parts: `accounts` (name -> table or settings object), `routes`,
    `defaults`, `rules`, `outbox`. Accounts open when first used; `close` (or `async with`) closes them. One `Postroom`
    belongs to one event loop. Raises ConfigError with the dotted path of a wrong setting.
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
        if config is not None and not isinstance(config, Config):
            raise ConfigError("takes a Config, or accounts=…; a file is read by Postroom.from_config(path)")
        if config and (accounts or routes or defaults or rules or outbox):
            raise ConfigError("give a Config, or accounts, routes, defaults, rules and outbox, but not both")
        self.config = config or _config_of(accounts or {}, routes or {}, defaults or {}, rules, outbox or {})
        self.registry = Registry(self.config.plugins)
        extensions = self.registry.load_extensions(self.config.plugins.extensions)
        self._observers = Observers(self.registry.implementations("postroom_on_event", extensions))
        gates = SendMiddleware(self.registry.implementations("postroom_around_send", extensions))
        self._router = Router(self.config, self.registry)
        self._accounts = Accounts(self.config, self.registry, gates)
        self._outbox: Outbox | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @classmethod
    def from_config(cls, path: str | Path | None = None) -> Self:
        """Read `path`, else POSTROOM_CONFIG, else `./postroom.toml`, and the environment over it."""
        return cls(load_config(path))

    @classmethod
    def from_urls(cls, *urls: str, email: str | None = None, sms: str | None = None) -> Self:
        """Make accounts from URLs such as `smtp://user:pass@host:587` or `twilio://SID:TOKEN@?from=%2B1500…`.

        `email` and `sms` are the default of their channel; other URLs make accounts named after their
        provider.
        """
        return cls(config_from_urls(urls, {"email": email, "sms": sms}))

    async def __aenter__(self) -> Self:
        self._check_usable()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every account. Sending afterwards is an error."""
        if not self._closed:
            self._closed = True
            if self._outbox is not None:
                await self._outbox.close()
            await self._accounts.close()

    @property
    def outbox(self) -> Outbox:
        """The durable store of messages on their way, and what can be asked of it."""
        if self._outbox is None:
            from postroom.outbox.executor import MessageExecutor  # noqa: PLC0415 - only those pay who use it
            from postroom.outbox.outbox import Outbox  # noqa: PLC0415
            from postroom.outbox.sqlite.store import SqliteStore  # noqa: PLC0415
            from postroom.outbox.suppression import SuppressionList  # noqa: PLC0415

            settings = self.config.outbox
            store = SqliteStore(settings)
            suppressions = SuppressionList(store)
            observers, screen = self._observers, suppressions.among
            courier = MessageExecutor(self._accounts, self._router, settings, observers=observers, screen=screen)
            self._outbox = Outbox(store, courier, suppressions)
        return self._outbox

    @cached_property
    def _has_outbox(self) -> bool:
        """Whether there is a suppression list that direct sends must heed too."""
        return self.config.outbox.path.exists()

    @property
    def memory(self) -> list[Message]:
        """The messages that accounts of the provider `memory` took, oldest first."""
        return self._accounts.resources.shared(Mailbox)

    async def send(self, message: Email | Sms) -> Receipt:
        """Hand `message` over now and return what became of it.

        Tries the accounts of its route in order, and goes on to the next only after an attempt that surely
        was not taken. Returns when at least one recipient was accepted (see `Receipt.recipients` for the
        others). Raises DeliveryError, with `.receipt` set, when none was; its `outcome` says whether it may be
        sent again. Raises MessageError, PluginError or ConfigError when nothing was tried.

        A `required` message is stored first, and stays in the outbox until it is delivered, refused for good,
        or expired: when it cannot be delivered now, the receipt says `retrying`, and nothing is raised. One with
        an `idempotency_key` is stored too; the same key gives the first receipt again.
        """
        self._check_usable()
        if isinstance(message, Message) and (message.required or message.idempotency_key):
            from postroom.outbox.receipt_errors import raise_for_receipt  # noqa: PLC0415 - only those pay who use it

            return raise_for_receipt(await self.outbox.send(message))
        taken = check_sendable(message)
        journey = DeliveryProgress(taken, taken.id or new_id())
        if self._outbox is not None or self._has_outbox:
            journey.suppress(await self.outbox.suppressed(taken))
        for part, targets in [(part, self._router.plan(part)) for part in self._router.parts(taken)]:
            await self._serve(part, targets, journey)
        return self._concluded(journey)

    async def enqueue(self, message: Email | Sms) -> Receipt:
        """Accept `message` for a worker to deliver (`work`, or `postroom worker`) and return its receipt.

        It is on disk when this returns. Its status is `queued`, or `scheduled` when it has a later `send_at`;
        with an idempotency key that was used for the same message before, it is that message's receipt. Raises
        IdempotencyConflict when that was another message, OutboxError when it could not be stored, and
        MessageError, PluginError or ConfigError when it can never be sent.
        """
        [answer] = await self.enqueue_many([message])
        if isinstance(answer, PostroomError):
            raise answer
        return answer

    async def enqueue_many(self, messages: Sequence[Email | Sms]) -> list[Result]:
        """Accept messages in one transaction; returns one receipt or error for each, in their order."""
        self._check_usable()
        answers = await self.outbox.add(messages)
        return [answer if isinstance(answer, PostroomError) else answer.receipt for answer in answers]

    async def work(self, *, stop: asyncio.Event | None = None, until_empty: bool = False) -> None:
        """Deliver what is in the outbox: until `stop`, or with `until_empty` until nothing is due.

        Any number of processes may work at the same outbox. What is under way when `stop` is set, or when this
        is cancelled, ends first.
        """
        self._check_usable()
        await self.outbox.work(stop=stop, until_empty=until_empty)

    async def receive(self, account: str, request: WebhookRequest) -> list[Event]:
        """Take in what a provider reports of messages: verify it, and keep what is new.

        Messages move to what is reported of them (delivered, bounced), those who must not be written to any more
        are suppressed, and observers are told. Returns all that the request reports. Raises SignatureInvalid when
        it is not the provider's, PayloadInvalid when it cannot be read, WebhookError when the provider never
        reports, ProviderNotFound for an unknown account, and OutboxError when it could not be kept.
        """
        self._check_usable()
        for target, channel in self._uses(account):
            events = await self._accounts.read_report(target, channel, request)
            if events is not None:
                break
        else:
            raise WebhookError(f"the provider of account {account!r} sends no reports that postroom can read")
        for event, receipt in zip(events, await asyncio.gather(*map(self.outbox.record, events)), strict=True):
            if receipt is not None and self._observers:
                self._observers.tell(event, receipt)
        return events

    async def send_many(
        self,
        messages: Iterable[Email | Sms],
        *,
        progress: Callable[[int, Result], None] | None = None,
        at_once: int = MOST_AT_ONCE,
    ) -> list[Result]:
        """Send every message and return one result for each, in their order: a receipt, or the error.

        One message's failure does not touch the others. `progress` is called with the index and the result of
        each message as it is done; `at_once` bounds how many are under way. What `progress` or the iterable
        raises stops the rest and is raised here.
        """
        results: dict[int, Result] = {}

        def keep(index: int, result: Result) -> None:
            results[index] = result
            if progress:
                progress(index, result)

        await self.send_each(messages, keep, at_once=at_once)
        return [results[index] for index in range(len(results))]

    async def send_each(
        self, messages: Iterable[Email | Sms], report: Callable[[int, Result], None], *, at_once: int = MOST_AT_ONCE
    ) -> None:
        """Like `send_many`, for streams too long to keep: each result goes to `report` and is forgotten."""
        if at_once < 1:
            raise ValueError(f"at_once must be at least 1, not {at_once}")
        numbered = enumerate(messages)

        async def work() -> None:
            for index, message in numbered:
                try:
                    result: Result = await self.send(message)
                except PostroomError as error:
                    result = error
                report(index, result)

        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(_workers(messages, at_once)):
                    workers.create_task(work())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def settings(self, target: Target, channel: Channel) -> AccountSettings:
        """Return the validated settings of an account; raises ConfigError or PluginError."""
        return self._accounts.settings(target, channel)

    def targets(self, message: Email | Sms) -> tuple[Target, ...]:
        """Return the accounts `message` would be tried at now, in order; nothing is opened or sent."""
        return self._router.targets(self._router.choice(message), message.channel_name)

    def validate(self) -> None:
        """Validate every account's settings, and every name the configuration uses, now rather than at first use.

        Raises ConfigError, or ProviderNotFound for a name that nothing answers to.
        """
        for name in self.config.accounts:
            for target, channel in self._uses(name):
                self._accounts.settings(target, channel)
        for name, channel in self._router.names():
            self._router.targets(name, channel)

    async def check(self, account: str | None = None) -> dict[str, CheckReport | PostroomError]:
        """Try the credentials and reachability of one account, or of all; sends nothing.

        Returns a report, or the error, per account; an account of two channels is `name (email)` and so on.
        Raises ProviderNotFound for an unknown name.
        """
        self._check_usable()
        names = [account] if account else list(self.config.accounts)
        found: dict[str, CheckReport | PostroomError] = {}
        for name in names:
            try:
                uses = self._uses(name)
            except PluginError as error:
                if account:
                    raise
                found[name] = error
                continue
            for target, channel in uses:
                label = target.name if len(uses) == 1 else f"{target.name} ({channel})"
                found[label] = await self._checked(target, channel)
        return found

    async def _checked(self, target: Target, channel: Channel) -> CheckReport | PostroomError:
        try:
            return await self._accounts.check(target, channel)
        except PostroomError as error:
            return error

    def _uses(self, name: str) -> list[tuple[Target, Channel]]:
        if name in self.config.accounts:
            provider = self.config.provider_of(name)
            return [(Target(name, provider), channel) for channel in self.registry.channels(provider)]
        return [(target, c) for c in self.registry.channels(name) for target in self._router.targets(name, c)]

    async def _serve(self, part: Message, targets: tuple[Target, ...], journey: DeliveryProgress) -> None:
        """Take the recipients of `part` through the accounts of its route."""
        for target in targets:
            left = journey.left(part.recipients)
            if not left:
                return
            refusal = await hand_over(self._accounts, target, part, left, journey)
            if refusal and target is not targets[-1]:
                level = logging.INFO if isinstance(refusal, MessageError) else logging.WARNING
                _log.log(level, "message %s: passing over account %r: %s", journey.id, target.name, refusal)

    def _concluded(self, journey: DeliveryProgress) -> Receipt:
        error = journey.error()
        receipt = journey.receipt()
        if self._observers and receipt.attempts:
            self._observers.tell(event_of(receipt), receipt)
        if error is None:
            return receipt
        if isinstance(error, DeliveryError):
            error = error.with_receipt(receipt)
        raise error

    def _check_usable(self) -> None:
        if self._closed:
            raise PostroomError("this Postroom is closed; make a new one to send again")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise PostroomError("this Postroom belongs to another event loop; make one in each loop")


def _config_of(
    accounts: Mapping[str, AccountSettings | Mapping[str, Any]],
    routes: Mapping[str, Any],
    defaults: Mapping[str, str],
    rules: Iterable[Mapping[str, Any]],
    outbox: Mapping[str, Any],
) -> Config:
    tables = {name: dict(a) if isinstance(a, Mapping) else a for name, a in accounts.items()}
    parts = {"accounts": tables, "routes": dict(routes), "defaults": dict(defaults), "rules": list(rules)}
    return parse_config({**parts, "outbox": dict(outbox)})


def _workers(messages: Iterable[Email | Sms], at_once: int) -> int:
    return min(at_once, len(messages)) if isinstance(messages, Sized) else at_once
