"""Hooks: pluggy behind one typed method for each hook."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from postroom.plugin import hookspecs

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import typer

    from postroom.events import Event
    from postroom.messages import Email, Message
    from postroom.plugin.demonstration import Demonstration
    from postroom.receipts import Channel, Receipt

NAMES = sorted(name for name in vars(hookspecs) if name.startswith("postroom_"))
"""Every hook that postroom calls."""

Plugins = Iterable[tuple[str, object]]
"""Names of plugins, and the plugins."""


class OnEvent(Protocol):
    """An implementation of `postroom_on_event`."""

    def __call__(self, *, event: Event, receipt: Receipt) -> None: ...


class AroundSend(Protocol):
    """An implementation of `postroom_around_send`."""

    def __call__(self, *, message: Message, account: str) -> AbstractAsyncContextManager[None] | None: ...


class TransformMessage(Protocol):
    """An implementation of `postroom_transform_message`."""

    def __call__(self, *, message: Message, account: str) -> Message | None: ...


class TransformContent(Protocol):
    """An implementation of `postroom_transform_content`."""

    def __call__(self, *, content: bytes, message: Email, account: str) -> bytes | None: ...


class Commands(Protocol):
    """An implementation of `postroom_commands`."""

    def __call__(self, *, app: typer.Typer) -> None: ...


class Hooks:
    """The plugins that one registry has loaded, and what they implement."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)

    def register(self, plugin: object, name: str) -> list[str]:
        """Register a plugin, once whatever its names; return the hooks it implements that nobody calls.

        A plugin with such hooks is not kept. Raises pluggy.PluginValidationError for arguments a hook does not have.
        """
        if not self._manager.is_registered(plugin):
            self._manager.register(plugin, name=name)
        unknown = [hook.name for hook in self._manager.get_hookcallers(plugin) or () if not hook.has_spec()]
        if unknown:
            self._manager.unregister(plugin)
        return unknown

    def transport(self, plugin: object, channel: Channel) -> Callable[[], Any] | None:
        """The hook that returns the plugin's transport class for `channel`, if it carries that."""
        found = self._implementations(f"postroom_{channel}_transport", [("", plugin)])
        return found[0][1] if found else None

    def demonstrations(self, plugin: object) -> list[Demonstration]:
        """What `postroom demo` shows of a provider's plugin."""
        found = self._implementations("postroom_demonstrations", [("", plugin)])
        return [each for _, demonstrations in found for each in demonstrations()]

    def on_event(self, plugins: Plugins) -> list[tuple[str, OnEvent]]:
        """The observers among `plugins`, in their order."""
        return self._implementations("postroom_on_event", plugins)

    def around_send(self, plugins: Plugins) -> list[tuple[str, AroundSend]]:
        """The send middleware of `plugins`, in their order."""
        return self._implementations("postroom_around_send", plugins)

    def transform_message(self, plugins: Plugins) -> list[tuple[str, TransformMessage]]:
        """What changes messages before they are handed over, in the order of `plugins`."""
        return self._implementations("postroom_transform_message", plugins)

    def transform_content(self, plugins: Plugins) -> list[tuple[str, TransformContent]]:
        """What changes the bytes of e-mails before they are handed over, in the order of `plugins`."""
        return self._implementations("postroom_transform_content", plugins)

    def commands(self, plugins: Plugins) -> list[tuple[str, Commands]]:
        """What adds the commands of `plugins`, in their order."""
        return self._implementations("postroom_commands", plugins)

    def _implementations(self, hook: str, plugins: Plugins) -> list[tuple[str, Any]]:
        found = {id(each.plugin): each for each in getattr(self._manager.hook, hook).get_hookimpls()}
        return [(name, _by_name(found[id(plugin)])) for name, plugin in plugins if id(plugin) in found]


def _by_name(implementation: pluggy.HookImpl) -> Callable[..., Any]:
    """Return the function to be called with all of its hook's arguments; it gets those it asks for."""
    function, wanted = implementation.function, implementation.argnames

    def call(**given: Any) -> Any:
        return function(*[given[name] for name in wanted])

    return call
