"""Interface check of a plugin before it is used: its interface version, and the class that it gives."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING

from postroom.errors import ContractViolation
from postroom.plugin.settings import AccountSettings
from postroom.plugin.transport import EMAIL_FEATURES, INTERFACE_VERSION, SMS_FEATURES, Capabilities, Transport
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Iterable

_FEATURES = {Channel.EMAIL: EMAIL_FEATURES, Channel.SMS: SMS_FEATURES}


def check_interface(what: str, plugin: object) -> None:
    """Raise ContractViolation unless `plugin` speaks this release's interface, or states none."""
    spoken = getattr(plugin, "postroom_interface", INTERFACE_VERSION)
    if spoken == INTERFACE_VERSION:
        return
    if not isinstance(spoken, int):
        raise ContractViolation(f"{what} states postroom_interface = {spoken!r}; it must be a whole number")
    step = "update postroom" if spoken > INTERFACE_VERSION else "update the plugin"
    raise ContractViolation(
        f"{what} speaks plugin interface {spoken}, this postroom speaks {INTERFACE_VERSION}; {step}"
    )


def stated_interface(plugin: object) -> int | None:
    """Return the version of the interface that a loaded plugin states, None where it states none."""
    return getattr(plugin, "postroom_interface", None)


def check_transport(provider: str, transport: object, channel: Channel) -> None:
    """Raise ContractViolation, saying what is wrong, unless `transport` can carry `channel`."""
    problem = _transport_problem(transport, channel)
    if problem:
        raise ContractViolation(f"provider {provider!r}: postroom_{channel}_transport {problem}")


def _transport_problem(transport: object, channel: Channel) -> str | None:
    base = f"{channel.capitalize()}Transport"
    if not (isinstance(transport, type) and issubclass(transport, Transport)):
        return f"must return a class derived from postroom.plugin.{base}, not {transport!r}"
    if getattr(transport, "channel", None) is not channel:
        return f"must return a class derived from postroom.plugin.{base}; {transport.__name__} is not"
    if inspect.isabstract(transport):
        return f"returns {transport.__name__}, which must implement {listed(transport.__abstractmethods__)}"
    model = getattr(transport, "settings_model", None)
    if not (isinstance(model, type) and issubclass(model, AccountSettings)):
        return f"returns {transport.__name__}, whose settings_model must derive from AccountSettings"
    if not isinstance(transport.capabilities, Capabilities):
        return f"returns {transport.__name__}, whose capabilities must be a Capabilities"
    if not isinstance(transport.deviations, Mapping):
        return f"returns {transport.__name__}, whose deviations must map names of tests to reasons"
    return _capabilities_problem(transport.capabilities, channel)


def _capabilities_problem(capabilities: Capabilities, channel: Channel) -> str | None:
    if not isinstance(capabilities.features, (set, frozenset)):
        return "lists features in something other than a frozenset"
    foreign = capabilities.features - _FEATURES[channel]
    if foreign:
        return f"lists features {listed(map(str, foreign))}; the words are {listed(_FEATURES[channel])}"
    for name in ("max_batch", "max_recipients"):
        most = getattr(capabilities, name)
        if not (isinstance(most, int) and most >= 1) and (name, most) != ("max_recipients", None):
            return f"states {name} = {most!r}; it must be a whole number of at least 1"
    return None


def listed(names: Iterable[str]) -> str:
    """Return the names in order, for a text."""
    return ", ".join(sorted(names)) or "none"
