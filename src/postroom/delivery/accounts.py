"""Account pool of one `Postroom`: settings validated and transports opened when first used."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from postroom.config.accounts import account_settings, settings_for_message, settings_from_environment
from postroom.delivery.dispatcher import AccountDispatcher, early_fault
from postroom.delivery.transforms import Transforms
from postroom.errors import ConfigError, PostroomClosed, PostroomError
from postroom.plugin.cancellation import is_being_cancelled
from postroom.plugin.resources import Resources
from postroom.plugin.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping

    from pydantic import SecretStr

    from postroom.config.model import Config
    from postroom.delivery.middleware import SendMiddleware
    from postroom.events import Event
    from postroom.messages import Message
    from postroom.plugin.settings import AccountSettings, OnUnknown
    from postroom.plugin.transport import Capabilities, CheckReport, WebhookRequest
    from postroom.receipts import Channel
    from postroom.registry.registry import Registry

K = TypeVar("K", bound=tuple[object, ...])

MOST_AD_HOC = 256
"""Accounts made from credentials that messages brought; the one idle longest makes room for the next."""


@dataclass(frozen=True, slots=True)
class Target:
    """An account a message may go through: one of the configuration, or a provider used on its own."""

    name: str
    provider: str
    configured: bool = True


class Accounts:
    """Hands out one dispatcher for each account and channel, and closes them all in the end."""

    def __init__(
        self, config: Config, registry: Registry, middleware: SendMiddleware, transforms: Transforms | None = None
    ) -> None:
        transforms = transforms or Transforms()
        self._config = config
        self._registry = registry
        self._middleware = middleware
        self._transforms = transforms
        self.resources = Resources(transforms.content if transforms.contents else None)
        self._settings: dict[tuple[str, Channel], AccountSettings] = {}
        self._dispatchers: dict[tuple[str, Channel], AccountDispatcher] = {}
        self._ad_hoc: OrderedDict[tuple[str, Channel, bytes], AccountDispatcher] = OrderedDict()
        self._opening: dict[tuple[object, ...], asyncio.Task[AccountDispatcher]] = {}
        self._closed = False

    def ready(self, target: Target, message: Message) -> AccountDispatcher | None:
        """Return the dispatcher of `target` if it is open already and the message brings no credentials."""
        return None if message.options else self._dispatchers.get((target.name, message.channel_name))

    def opened(self, target: Target, channel: Channel) -> AccountDispatcher | None:
        """Return the dispatcher of `target` if it is open already."""
        return self._dispatchers.get((target.name, channel))

    async def dispatcher_for(self, target: Target, message: Message) -> AccountDispatcher:
        """Return the dispatcher for `message`, opening its transport when it is the first.

        Raises PluginError when the provider cannot be used, ConfigError when the settings are wrong.
        """
        if message.options:
            return await self._ad_hoc_for(target, message.channel_name, message.options)
        return await self.own_dispatcher(target, message.channel_name)

    async def own_dispatcher(self, target: Target, channel: Channel) -> AccountDispatcher:
        """Return the dispatcher with the account's own credentials; raises as `dispatcher_for` does."""
        dispatcher = self._dispatchers.get((target.name, channel))
        if dispatcher is not None:
            return dispatcher
        settings = self.settings(target, channel)
        return await self._open_once(
            self._dispatchers, (target.name, channel), lambda: self._open(target, channel, settings)
        )

    def unopened(self, target: Target, message: Message) -> AccountDispatcher:
        """Return a dispatcher as `message` would get it, whose transport was never opened, to look at.

        Raises PluginError and ConfigError as `dispatcher_for` does.
        """
        with _plugin_faults(target, "made"):
            transport = self._transport(target, message.channel_name, self.settings_for(target, message))
            return AccountDispatcher(transport, self._middleware, self._transforms)

    def settings_for(self, target: Target, message: Message) -> AccountSettings:
        """Return the settings `message` goes out with: its own credentials over the account's."""
        if not message.options:
            return self.settings(target, message.channel_name)
        return self._ad_hoc_settings(target, message.channel_name, message.options)

    def settings(self, target: Target, channel: Channel) -> AccountSettings:
        """Return the validated settings of an account; raises ConfigError or PluginError."""
        key = (target.name, channel)
        if key not in self._settings:
            self._settings[key] = self._validated(target, channel)
        return self._settings[key]

    def capabilities(self, target: Target, channel: Channel) -> Capabilities:
        """Return what the account's transport can do; raises PluginError."""
        return self._registry.transport(target.provider, channel).capabilities

    def reports(self, account: str, channel: Channel) -> bool:
        """Whether the account's provider sends reports that its transport can read; yes when it is not open."""
        dispatcher = self._dispatchers.get((account, channel))
        return dispatcher is None or type(dispatcher.transport).parse_webhook is not Transport.parse_webhook

    async def read_report(self, target: Target, channel: Channel, request: WebhookRequest) -> list[Event] | None:
        """Return what the account's provider reports, with the account's name; None when it never reports.

        Raises WebhookError for what is not the provider's or cannot be read, and what `dispatcher_for` raises.
        """
        kind = self._registry.transport(target.provider, channel)
        if kind.parse_webhook is Transport.parse_webhook:
            return None  # before its settings are looked at: an account of two channels may be set up for one
        transport = (await self.own_dispatcher(target, channel)).transport
        with _plugin_faults(target, "reading a report"):
            events = transport.parse_webhook(request)
        return [event.model_copy(update={"account": target.name}) for event in events]

    async def check_report_head(self, target: Target, channel: Channel, head: WebhookRequest) -> bool | None:
        """Return whether the head of a report proves who sends it; None when the account's provider never reports.

        Raises SignatureInvalid, and what `dispatcher_for` raises.
        """
        kind = self._registry.transport(target.provider, channel)
        if kind.parse_webhook is Transport.parse_webhook:
            return None
        transport = (await self.own_dispatcher(target, channel)).transport
        with _plugin_faults(target, "reading the head of a report"):
            return transport.check_webhook_head(head)

    def on_unknown(self, target: Target, channel: Channel) -> OnUnknown:
        """Return the account's policy for unknown outcomes; its provider's when its settings are incomplete.

        A message may bring the credentials that the account lacks. Raises PluginError.
        """
        try:
            return self.settings(target, channel).on_unknown
        except ConfigError:
            model = self._registry.transport(target.provider, channel).settings_model
            default: OnUnknown = model.model_fields["on_unknown"].default
            return default

    async def check(self, target: Target, channel: Channel) -> CheckReport:
        """Let a transport of the account's own try its credentials; it is closed again at once."""
        settings = self.settings(target, channel)
        with _plugin_faults(target, "checked"):
            transport = self._transport(target, channel, settings)
            await transport.open()
            try:
                return await transport.check()
            finally:
                await transport.close()

    async def close(self) -> None:
        """Close every transport, then what they share. One that fails to close does not keep the others."""
        self._closed = True
        if self._opening:
            await asyncio.wait(self._opening.values())
        dispatchers = [*self._dispatchers.values(), *self._ad_hoc.values()]
        self._dispatchers.clear()
        self._ad_hoc.clear()
        await asyncio.gather(*(dispatcher.close() for dispatcher in dispatchers))
        await self.resources.close()

    def _validated(self, target: Target, channel: Channel) -> AccountSettings:
        model = self._registry.transport(target.provider, channel).settings_model
        if target.configured:
            return account_settings(target.name, self._config.accounts[target.name], model)
        return settings_from_environment(target.provider, model) or account_settings(
            target.name, {"provider": target.provider}, model
        )

    async def _ad_hoc_for(
        self, target: Target, channel: Channel, options: Mapping[str, SecretStr]
    ) -> AccountDispatcher:
        key = (target.name, channel, _fingerprint(options))
        if len(self._ad_hoc) >= MOST_AD_HOC and key not in self._ad_hoc:
            await self._close_idle()
        while key not in self._ad_hoc:  # one that was opened may have made room for another before we are awake
            await self._open_once(
                self._ad_hoc, key, lambda: self._open(target, channel, self._ad_hoc_settings(target, channel, options))
            )
        self._ad_hoc.move_to_end(key)
        return self._ad_hoc[key]

    async def _open_once(
        self, opened: dict[K, AccountDispatcher], key: K, make: Callable[[], Coroutine[Any, Any, AccountDispatcher]]
    ) -> AccountDispatcher:
        """Open one for all who ask for it at the same time; one of them cancelled does not stop it."""
        if self._closed:
            raise PostroomClosed("this Postroom is closed; make a new one to send again")
        task = self._opening.get(key)
        if task is None:
            task = self._opening[key] = asyncio.create_task(make())
            task.add_done_callback(lambda done: self._keep(opened, key, done))
        return await asyncio.shield(task)

    def _keep(self, opened: dict[K, AccountDispatcher], key: K, task: asyncio.Task[AccountDispatcher]) -> None:
        del self._opening[key]
        if not task.cancelled() and task.exception() is None:
            opened[key] = task.result()

    def _ad_hoc_settings(self, target: Target, channel: Channel, options: Mapping[str, SecretStr]) -> AccountSettings:
        model = self._registry.transport(target.provider, channel).settings_model
        base = self._config.accounts[target.name] if target.configured else {"provider": target.provider}
        return settings_for_message(target.name, base, model, options)

    async def _open(self, target: Target, channel: Channel, settings: AccountSettings) -> AccountDispatcher:
        with _plugin_faults(target, "opened"):
            dispatcher = AccountDispatcher(
                self._transport(target, channel, settings), self._middleware, self._transforms
            )
            await dispatcher.transport.open()
        return dispatcher

    def _transport(self, target: Target, channel: Channel, settings: AccountSettings) -> Transport[Any, Any]:
        return self._registry.transport(target.provider, channel)(target.name, settings, self.resources)

    async def _close_idle(self) -> None:
        idle = next((key for key, dispatcher in self._ad_hoc.items() if dispatcher.idle), None)
        if idle is not None:
            await self._ad_hoc.pop(idle).close()


@contextmanager
def _plugin_faults(target: Target, what: str) -> Iterator[None]:
    """Whatever a plugin raises before an attempt is one of our errors to the caller, and so is work it cancels."""
    try:
        yield
    except PostroomError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            raise
        raise early_fault(target.name, target.provider, error, f"was {what}") from error


def _fingerprint(options: Mapping[str, SecretStr]) -> bytes:
    """Distinguish sets of credentials without keeping them as keys."""
    digest = hashlib.sha256()
    for part in _flat(sorted(options.items())):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()


def _flat(options: Iterable[tuple[str, SecretStr]]) -> Iterable[bytes]:
    for name, secret in options:
        yield name.encode()
        yield secret.get_secret_value().encode()
