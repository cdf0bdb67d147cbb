"""`Postroom`: hand it a message, get a receipt."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sized
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from postroom.accounts import Accounts, Target
from postroom.config.load import load_config
from postroom.config.model import Config, parse_config
from postroom.config.urls import config_from_urls
from postroom.errors import (
    ConfigError,
    DeliveryError,
    MessageError,
    PluginError,
    PostroomError,
)
from postroom.events import Event, EventType
from postroom.gates import Gates, Observers
from postroom.journey import Journey, Tried
from postroom.messages import Email, Message, Sms, new_id
from postroom.preparing import admitted, pieces, prepared
from postroom.receipts import Accepted, Channel, Receipt, Status
from postroom.registry import Registry
from postroom.routing import Router

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from postroom.dispatch import Lane
    from postroom.plugin.settings import AccountSettings
    from postroom.plugin.transport import CheckReport

_log = logging.getLogger("postroom")

MOST_AT_ONCE = 1000
"""Messages of one `send_many` that are on their way together; accounts set their own, tighter limits."""

_EVENTS = {Status.SENT: EventType.SENT, Status.IN_DOUBT: EventType.IN_DOUBT}

Result = Receipt | PostroomError


class Postroom:
    """The front desk: picks an account for each message, hands it over once, and tells what became of it.

    `config` is a `Config`; or give its parts: `accounts` (name -> table or settings object), `routes`,
    `defaults`, `rules`. Accounts open when first used; `close` (or `async with`) closes them. One `Postroom`
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
    ) -> None:
        if config is not None and not isinstance(config, Config):
            raise ConfigError("takes a Config, or accounts=…; a file is read by Postroom.from_config(path)")
        if config and (accounts or routes or defaults or rules):
            raise ConfigError("give a Config, or accounts, routes, defaults and rules, but not both")
        self.config = config or _config_of(accounts or {}, routes or {}, defaults or {}, rules)
        self.registry = Registry(chosen=self.config.plugins.use)
        extensions = self.registry.load_extensions(self.config.plugins.extensions)
        self._observers = Observers(self.registry.implementations("postroom_on_event", extensions))
        gates = Gates(self.registry.implementations("postroom_around_send", extensions))
        self._router = Router(self.config, self.registry)
        self._accounts = Accounts(self.config, self.registry, gates)
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
            await self._accounts.close()

    @property
    def memory(self) -> list[Message]:
        """The messages that accounts of the provider `memory` took, oldest first."""
        return self._accounts.environment.memory

    async def send(self, message: Email | Sms) -> Receipt:
        """Hand `message` over now and return what became of it.

        Tries the accounts of its route in order, and goes on to the next only after an attempt that surely
        was not taken. Returns when at least one recipient was accepted (see `Receipt.recipients` for the
        others). Raises DeliveryError, with `.receipt` set, when none was; its `outcome` says whether it may be
        sent again. Raises MessageError, PluginError or ConfigError when nothing was tried.
        """
        self._check_usable()
        taken = admitted(message)
        journey = Journey(taken, taken.id or new_id())
        for part, targets in [(part, self._router.plan(part)) for part in self._router.parts(taken)]:
            await self._serve(part, targets, journey)
        return self._concluded(journey)

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

    async def _serve(self, part: Message, targets: tuple[Target, ...], journey: Journey) -> None:
        """Take the recipients of `part` through the accounts of its route."""
        for target in targets:
            left = journey.left(part.recipients)
            if not left:
                return
            try:
                lane = self._accounts.ready(target, part) or await self._accounts.lane(target, part)
                stamped = prepared(part, lane, journey)
                lane.refuse_unsupported(stamped)
                parts = pieces(stamped, left, lane)
            except DeliveryError as unopened:
                journey.add(target, Tried(left, datetime.now(UTC), 0.0, unopened))
                continue
            except PostroomError as refusal:
                if target is not targets[-1]:
                    level = logging.INFO if isinstance(refusal, MessageError) else logging.WARNING
                    _log.log(level, "message %s: passing over account %r: %s", journey.id, target.name, refusal)
                journey.refuse(left, refusal)
                continue
            await self._hand_over(target, lane, parts, journey)

    async def _hand_over(self, target: Target, lane: Lane, pieces: list[Message], journey: Journey) -> None:
        assume_sent = lane.settings.on_unknown == "assume_sent"
        if len(pieces) == 1:
            journey.add(target, await _tried(lane, pieces[0]), assume_sent=assume_sent)
            return
        for tried in await _all_tried(lane, pieces):
            journey.add(target, tried, assume_sent=assume_sent)

    def _concluded(self, journey: Journey) -> Receipt:
        error = journey.error()
        receipt = journey.receipt()
        if self._observers and receipt.attempts:
            self._observers.tell(_event(receipt), receipt)
        if error is None:
            return receipt
        if isinstance(error, DeliveryError):
            error.receipt = receipt
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
) -> Config:
    tables = {name: dict(a) if isinstance(a, Mapping) else a for name, a in accounts.items()}
    return parse_config({"accounts": tables, "routes": dict(routes), "defaults": dict(defaults), "rules": list(rules)})


def _workers(messages: Iterable[Email | Sms], at_once: int) -> int:
    return min(at_once, len(messages)) if isinstance(messages, Sized) else at_once


async def _all_tried(lane: Lane, pieces: list[Message]) -> list[Tried]:
    """Hand over every piece at once; a cancellation says of each that had been handed over that it was."""
    notes: list[str] = []

    async def one(piece: Message) -> Tried:
        try:
            return await _tried(lane, piece)
        except asyncio.CancelledError as cancelled:
            notes.extend(getattr(cancelled, "__notes__", ()))
            raise

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(piece)) for piece in pieces]
    except asyncio.CancelledError as cancelled:
        for note in notes:
            cancelled.add_note(note)
        raise
    return [task.result() for task in tasks]


async def _tried(lane: Lane, message: Message) -> Tried:
    started_at = datetime.now(UTC)
    clock = time.perf_counter()
    answer: Accepted | PostroomError
    try:
        answer = await lane.deliver(message)
    except PostroomError as error:
        answer = error
    except asyncio.CancelledError as cancelled:
        for note in getattr(cancelled, "__notes__", ()):
            _log.warning("message %s: %s", message.id, note)
        raise
    return Tried(message.recipients, started_at, time.perf_counter() - clock, answer)


def _event(receipt: Receipt) -> Event:
    return Event(
        type=_EVENTS.get(receipt.status, EventType.FAILED),
        channel=receipt.channel,
        provider=receipt.provider or "",
        occurred_at=datetime.now(UTC),
        account=receipt.account,
        message_id=receipt.id,
        provider_message_id=receipt.provider_message_id,
        code=receipt.attempts[-1].error,
        detail=receipt.attempts[-1].detail,
    )
