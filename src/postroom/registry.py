"""Provider name -> transport class: entry points found by name, loaded when first used, one at a time."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import re
from dataclasses import dataclass
from email.parser import HeaderParser
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from postroom.config.load import PLUGINS_VARIABLE
from postroom.errors import (
    ContractViolation,
    PluginConflict,
    PluginError,
    PluginLoadError,
    ProviderNotFound,
)
from postroom.plugin import hookspecs
from postroom.plugin.settings import AccountSettings
from postroom.plugin.transport import (
    EMAIL_FEATURES,
    INTERFACE_VERSION,
    SMS_FEATURES,
    Capabilities,
    Transport,
)
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PROVIDERS = "postroom"
EXTENSIONS = "postroom.extensions"

KNOWN_DISTRIBUTIONS = {
    "smtp": "postroom-smtp",
    "sendgrid": "postroom-sendgrid",
    "twilio": "postroom-twilio",
    "vonage": "postroom-vonage",
}
"""What to install for providers we know of."""

_FEATURES = {Channel.EMAIL: EMAIL_FEATURES, Channel.SMS: SMS_FEATURES}
_log = logging.getLogger("postroom.plugins")

TransportClass = type[Transport[Any, Any]]
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """One installed provider: where it comes from, and what it can do or why it cannot be used."""

    name: str
    distribution: str
    version: str
    module: str
    capabilities: Mapping[Channel, Capabilities]
    error: PluginError | None = None


class Registry:
    """Finds and loads providers. One per `Postroom`; nothing is shared between two of them.

    `chosen` maps a provider name to the distribution that may claim it, for names that several claim.
    POSTROOM_PLUGINS, a comma-separated list, restricts which providers may load; empty means none.
    """

    def __init__(self, *, chosen: Mapping[str, str] | None = None) -> None:
        self._chosen = chosen or {}
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._loaded: dict[str, object] = {}
        self._failures: dict[str, PluginError] = {}
        self._transports: dict[tuple[str, Channel], TransportClass | None] = {}

    @cached_property
    def _claims(self) -> dict[str, list[EntryPoint]]:
        claims: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=PROVIDERS):
            rivals = claims.setdefault(entry.name, [])
            if not any(_same_claim(entry, rival) for rival in rivals):
                rivals.append(entry)
        return claims

    @cached_property
    def _allowed(self) -> frozenset[str] | None:
        value = os.environ.get(PLUGINS_VARIABLE)
        if value is None:
            return None
        return frozenset(name.strip() for name in value.split(",") if name.strip())

    def names(self) -> list[str]:
        """Every provider that is installed and allowed, loaded or not."""
        return sorted(name for name in self._claims if self._allowed is None or name in self._allowed)

    def knows(self, provider: str) -> bool:
        """Whether the provider is installed and allowed; nothing is loaded."""
        return provider in self._claims and (self._allowed is None or provider in self._allowed)

    def transport(self, provider: str, channel: Channel) -> TransportClass:
        """Return the class that carries `channel` for `provider`.

        Raises ProviderNotFound, PluginConflict, PluginLoadError or ContractViolation.
        """
        found = self._find(provider, channel)
        if found is None:
            able = ", ".join(self.channels(provider)) or "nothing"
            raise ProviderNotFound(f"provider {provider!r} carries {able}, not {channel}; choose another for it")
        return found

    def channels(self, provider: str) -> list[Channel]:
        """Return the channels a provider carries; loads it."""
        return [channel for channel in Channel if self._find(provider, channel) is not None]

    def settings_model(self, provider: str) -> type[AccountSettings]:
        """Return the settings model of a provider; one model serves all its channels."""
        channels = self.channels(provider)
        return self.transport(provider, channels[0] if channels else Channel.EMAIL).settings_model

    def describe(self) -> list[ProviderInfo]:
        """Load every allowed provider and tell what it is; broken ones carry their error."""
        return [self._describe(name, entry) for name in self.names() for entry in self._claims[name]]

    def load_extensions(self, names: Iterable[str]) -> list[tuple[str, object]]:
        """Load observers, gates and commands by name; raises PluginError for one that cannot be used."""
        installed = {entry.name: entry for entry in entry_points(group=EXTENSIONS)}
        loaded = []
        for name in names:
            if name not in installed:
                raise ProviderNotFound(
                    f"extension {name!r} is not installed; installed: {_listed(installed)}. "
                    "Install it, or take it out of [plugins] extensions"
                )
            loaded.append((name, self._load(f"extension {name!r}", installed[name])))
        return loaded

    def implementations(self, hook: str, plugins: Iterable[tuple[str, object]]) -> list[tuple[str, Any]]:
        """Return (plugin name, function) of `hook` for the given plugins, in their order."""
        by_plugin = {id(impl.plugin): impl.function for impl in getattr(self._manager.hook, hook).get_hookimpls()}
        return [(name, by_plugin[id(plugin)]) for name, plugin in plugins if id(plugin) in by_plugin]

    def _describe(self, name: str, entry: EntryPoint) -> ProviderInfo:
        capabilities: dict[Channel, Capabilities] = {}
        error: PluginError | None = None
        try:
            capabilities = {c: self.transport(name, c).capabilities for c in self.channels(name)}
        except PluginError as failure:
            error = failure
        return ProviderInfo(
            name=name,
            distribution=_stated(entry, "Name"),
            version=_stated(entry, "Version"),
            module=entry.value,
            capabilities=capabilities,
            error=error,
        )

    def _find(self, provider: str, channel: Channel) -> TransportClass | None:
        key = (provider, channel)
        if key not in self._transports:
            plugin = self._plugin(provider)
            self._transports[key] = self._guarded(provider, lambda: self._from_hook(provider, plugin, channel))
        return self._transports[key]

    def _plugin(self, provider: str) -> object:
        if provider not in self._loaded:
            entry = self._claim(provider)
            self._loaded[provider] = self._guarded(provider, lambda: self._load_provider(provider, entry))
        return self._loaded[provider]

    def _guarded(self, provider: str, step: Callable[[], R]) -> R:
        """Run a loading step; remember a failure, so that a broken plugin is not tried again and again."""
        if provider in self._failures:
            raise self._failures[provider]
        try:
            return step()
        except PluginError as failure:
            _log.warning("%s", failure)
            self._failures[provider] = failure
            raise

    def _claim(self, provider: str) -> EntryPoint:
        if not self.knows(provider):
            raise self._not_found(provider)
        rivals = self._claims[provider]
        if provider in self._chosen:
            chosen = _canonical(self._chosen[provider])
            rivals = [entry for entry in rivals if _canonical(_stated(entry, "Name")) == chosen]
        if len(rivals) == 1:
            return rivals[0]
        claimants = _listed(_stated(entry, "Name") for entry in self._claims[provider])
        if not rivals:
            raise PluginConflict(
                f"[plugins.use] {provider} names {self._chosen[provider]!r}, but it is claimed by {claimants}"
            )
        raise PluginConflict(
            f"provider {provider!r} is claimed by {claimants}; uninstall one, or choose in the configuration: "
            f'[plugins.use] {provider} = "…"'
        )

    def _not_found(self, provider: str) -> ProviderNotFound:
        if provider in self._claims:
            return ProviderNotFound(
                f"provider {provider!r} is installed but not among {PLUGINS_VARIABLE}={','.join(self._allowed or ())}"
            )
        known = KNOWN_DISTRIBUTIONS.get(provider)
        near = difflib.get_close_matches(provider, self.names(), n=1)
        step = f"pip install {known}" if known else "install a plugin that provides it"
        hint = f"did you mean {near[0]!r}? Else " if near else ""
        return ProviderNotFound(f"no provider {provider!r}; installed: {_listed(self.names())}. {hint}{step}")

    def _load_provider(self, name: str, entry: EntryPoint) -> object:
        plugin = self._load(f"provider {name!r}", entry)
        if not any(self.implementations(f"postroom_{channel}_transport", [(name, plugin)]) for channel in Channel):
            raise ContractViolation(
                f"provider {name!r} ({_origin(entry)}) gives no transport: postroom_email_transport or "
                "postroom_sms_transport, marked with @hookimpl"
            )
        return plugin

    def _load(self, what: str, entry: EntryPoint) -> object:
        """Import and register what `entry` names; one module may stand behind several names."""
        try:
            plugin: object = entry.load()
            _check_interface(what, plugin)
            if not self._manager.is_registered(plugin):
                self._manager.register(plugin, name=f"{entry.group}:{entry.name}")
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginLoadError(f"{what} ({_origin(entry)}) cannot be loaded: {_cause(error)}") from error
        unknown = [hook.name for hook in self._manager.get_hookcallers(plugin) or () if not hook.has_spec()]
        if unknown:
            self._manager.unregister(plugin)
            raise ContractViolation(
                f"{what} ({_origin(entry)}) implements {_listed(unknown)}, which postroom does not call; the hooks "
                f"are {_listed(_hook_names())}"
            )
        return plugin

    def _from_hook(self, provider: str, plugin: object, channel: Channel) -> TransportClass | None:
        found = self.implementations(f"postroom_{channel}_transport", [(provider, plugin)])
        if not found:
            return None
        try:
            transport = found[0][1]()
        except (Exception, SystemExit) as error:
            raise PluginLoadError(f"provider {provider!r} cannot be loaded: {_cause(error)}") from error
        _check_transport(provider, transport, channel)
        return transport  # type: ignore[no-any-return] # just checked


def _same_claim(one: EntryPoint, other: EntryPoint) -> bool:
    """Whether one distribution was merely seen twice, as happens with an editable install."""
    return one.value == other.value and _stated(one, "Name") == _stated(other, "Name")


def _stated(entry: EntryPoint, field: str) -> str:
    """What the distribution's metadata say; a half-removed installation says nothing."""
    text = entry.dist.read_text("METADATA") if entry.dist else None
    return HeaderParser().parsestr(text or "").get(field, "unknown")


def _canonical(distribution: str) -> str:
    """`Acme_SMS` and `acme-sms` are one distribution (packaging.python.org, name normalization)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _origin(entry: EntryPoint) -> str:
    return f"{_stated(entry, 'Name')}, {entry.value}"


def _cause(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing == "aiohttp":
        return f"{text}; pip install 'postroom[http]'"
    return f"{text}; install what is missing" if missing else f"{text}; update or uninstall the plugin"


def _check_interface(what: str, plugin: object) -> None:
    spoken = getattr(plugin, "postroom_interface", INTERFACE_VERSION)
    if spoken == INTERFACE_VERSION:
        return
    if not isinstance(spoken, int):
        raise ContractViolation(f"{what} states postroom_interface = {spoken!r}; it must be a whole number")
    step = "update postroom" if spoken > INTERFACE_VERSION else "update the plugin"
    raise ContractViolation(
        f"{what} speaks plugin interface {spoken}, this postroom speaks {INTERFACE_VERSION}; {step}"
    )


def _check_transport(provider: str, transport: object, channel: Channel) -> None:
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
        return f"returns {transport.__name__}, which must implement {_listed(transport.__abstractmethods__)}"
    model = getattr(transport, "settings_model", None)
    if not (isinstance(model, type) and issubclass(model, AccountSettings)):
        return f"returns {transport.__name__}, whose settings_model must derive from AccountSettings"
    if not isinstance(transport.capabilities, Capabilities):
        return f"returns {transport.__name__}, whose capabilities must be a Capabilities"
    return _capabilities_problem(transport.capabilities, channel)


def _capabilities_problem(capabilities: Capabilities, channel: Channel) -> str | None:
    if not isinstance(capabilities.features, (set, frozenset)):
        return "lists features in something other than a frozenset"
    foreign = capabilities.features - _FEATURES[channel]
    if foreign:
        return f"lists features {_listed(map(str, foreign))}; the words are {_listed(_FEATURES[channel])}"
    for name in ("max_batch", "max_recipients"):
        most = getattr(capabilities, name)
        if not (isinstance(most, int) and most >= 1) and (name, most) != ("max_recipients", None):
            return f"states {name} = {most!r}; it must be a whole number of at least 1"
    return None


def _hook_names() -> list[str]:
    return [name for name in dir(hookspecs) if name.startswith("postroom_")]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
