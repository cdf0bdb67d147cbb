"""Registry of providers: name -> transport class, found by entry point and loaded when first used, one at a time."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from postroom.config.load import PLUGINS_VARIABLE
from postroom.config.model import Plugins
from postroom.errors import (
    ContractViolation,
    ExtensionNotFound,
    PluginConflict,
    PluginError,
    PluginLoadError,
    ProviderNotFound,
)
from postroom.plugin.transport import Capabilities, Transport
from postroom.receipts import Channel
from postroom.registry import hooks
from postroom.registry.entry_points import (
    describe,
    entry_points_by_name,
    metadata_field,
    normalize_name,
    source_file,
)
from postroom.registry.interface import check_interface, check_transport, listed, stated_interface
from postroom.validation import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from importlib.metadata import EntryPoint

    from postroom.plugin.demonstration import Demonstration
    from postroom.plugin.settings import AccountSettings

PROVIDERS = "postroom"
EXTENSIONS = "postroom.extensions"

OURS = {
    "smtp": "postroom-smtp",
    "sendgrid": "postroom-sendgrid",
    "twilio": "postroom-twilio",
    "vonage": "postroom-vonage",
}
"""The distributions of ours, by the names of their providers."""

_LIKENESS = 0.7
"""From which a provider's name may be a slip: `postmark` is none for `postroom`, `smpt` is one for `smtp`."""

SLOW_LOAD = 1.0
"""Seconds after which loading a plugin is worth a warning: everything else in the process waits meanwhile."""

_log = logging.getLogger("postroom.plugins")

TransportClass = type[Transport[Any, Any]]
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """One installed provider: where it comes from, and what it can do or why it cannot be used.

    `file` is where its code begins, None when that is not known. `why` says what lets it load or keeps it out.
    `load_seconds` is how long that took, None when it was not loaded or failed. `interface` is the version of the
    plugin interface that it states, None when it states none or was not loaded.
    """

    name: str
    distribution: str
    version: str
    module: str
    file: str | None
    why: str
    capabilities: Mapping[Channel, Capabilities]
    load_seconds: float | None = None
    interface: int | None = None
    error: PluginError | None = None

    @property
    def status(self) -> str:
        """`loaded`, `not allowed` or `broken`."""
        if self.error is None:
            return "loaded"
        return "not allowed" if isinstance(self.error, ProviderNotFound) else "broken"


class Registry:
    """Finds and loads providers. One per `Postroom`; nothing is shared between two of them.

    `plugins` says which may load. POSTROOM_PLUGINS, a comma-separated list, restricts them further; empty means none.
    """

    def __init__(self, plugins: Plugins | None = None) -> None:
        self._plugins = plugins or Plugins()
        self.hooks = hooks.Hooks()
        self._loaded: dict[str, object] = {}
        self._seconds: dict[str, float] = {}
        self._failures: dict[str, PluginError] = {}
        self._transports: dict[tuple[str, Channel], TransportClass | None] = {}

    @cached_property
    def _claims(self) -> dict[str, list[EntryPoint]]:
        return entry_points_by_name(PROVIDERS)

    @cached_property
    def _allowed_here(self) -> frozenset[str] | None:
        value = os.environ.get(PLUGINS_VARIABLE)
        if value is None:
            return None
        return frozenset(name.strip() for name in value.split(",") if name.strip())

    def names(self) -> list[str]:
        """Every provider that is installed and allowed, loaded or not."""
        return sorted(name for name in self._claims if not self._hindrance(name))

    def knows(self, provider: str) -> bool:
        """Whether the provider is installed and allowed; nothing is loaded."""
        return provider in self._claims and not self._hindrance(provider)

    def claimants(self, provider: str) -> list[str]:
        """Return the installed distributions that claim a provider's name, allowed or not; nothing is loaded."""
        return sorted(metadata_field(entry, "Name") for entry in self._claims.get(provider, ()))

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

    def demonstrations(self, provider: str) -> list[Demonstration]:
        """Return what `postroom demo` shows of a provider; loads it. Raises as `transport` does."""
        plugin = self._plugin(provider)
        return self._guarded(provider, lambda: self._demonstrations(provider, plugin))

    def settings_model(self, provider: str) -> type[AccountSettings]:
        """Return the settings model of a provider; one model serves all its channels."""
        channels = self.channels(provider)
        return self.transport(provider, channels[0] if channels else Channel.EMAIL).settings_model

    def describe(self) -> list[ProviderInfo]:
        """Load every allowed provider and describe each installed one; those of no use carry their error."""
        return [self._describe(name, entry) for name in sorted(self._claims) for entry in self._claims[name]]

    def load_extensions(self, names: Iterable[str]) -> list[tuple[str, object]]:
        """Load observers, send middleware and commands by name.

        Raises ExtensionNotFound, PluginConflict, PluginLoadError or ContractViolation.
        """
        installed = entry_points_by_name(EXTENSIONS)
        loaded = []
        for name in names:
            if name not in installed:
                raise ExtensionNotFound(
                    f"extension {name!r} is not installed; installed: {listed(installed)}. "
                    "Install it, or take it out of [plugins] extensions"
                )
            entry, *rivals = installed[name]
            if rivals:
                claimants = listed(metadata_field(claim, "Name") for claim in installed[name])
                raise PluginConflict(f"extension {name!r} is claimed by {claimants}; uninstall all but one")
            loaded.append((name, self._load(f"extension {name!r}", entry)))
        return loaded

    def _describe(self, name: str, entry: EntryPoint) -> ProviderInfo:
        capabilities: dict[Channel, Capabilities] = {}
        error: PluginError | None = None
        try:
            capabilities = {c: self.transport(name, c).capabilities for c in self.channels(name)}
        except PluginError as failure:
            error = failure
        return ProviderInfo(
            name=name,
            distribution=metadata_field(entry, "Name"),
            version=metadata_field(entry, "Version"),
            module=entry.value,
            file=source_file(entry),
            why=self._why(name),
            load_seconds=None if error else self._seconds.get(name),
            interface=stated_interface(self._loaded.get(name)),
            capabilities=capabilities,
            error=error,
        )

    def _hindrance(self, provider: str) -> str | None:
        """What keeps a provider from loading, if anything does."""
        if self._allowed_here is not None and provider not in self._allowed_here:
            return f"not among {PLUGINS_VARIABLE}={','.join(sorted(self._allowed_here))}"
        if self._plugins.allow is not None and provider not in self._plugins.allow:
            return f"not among [plugins] allow = [{listed(self._plugins.allow)}]"
        return None

    def _why(self, provider: str) -> str:
        """What lets a provider load, or what keeps it out."""
        if hindrance := self._hindrance(provider):
            return hindrance
        lists = {PLUGINS_VARIABLE: self._allowed_here, "[plugins] allow": self._plugins.allow}
        named = [f"named in {where}" for where, names in lists.items() if names is not None]
        if provider in self._plugins.use:
            named.append(f"[plugins.use] asks for {self._plugins.use[provider]}")
        return "; ".join(named) or "installed, and nothing restricts which providers load"

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
        begun = time.perf_counter()
        try:
            return step()
        except PluginError as failure:
            _log.warning("%s", failure)
            self._failures[provider] = failure
            raise
        finally:
            self._took(provider, time.perf_counter() - begun)

    def _took(self, provider: str, seconds: float) -> None:
        self._seconds[provider] = self._seconds.get(provider, 0.0) + seconds
        if seconds > SLOW_LOAD:
            _log.warning(
                "provider %r (%s) took %.1f s to load, and everything waited; its author should import what is heavy "
                "only where it is used",
                provider,
                describe(self._claim(provider)),
                seconds,
            )

    def _claim(self, provider: str) -> EntryPoint:
        if not self.knows(provider):
            raise self._not_found(provider)
        rivals = self._claims[provider]
        if provider in self._plugins.use:
            chosen = normalize_name(self._plugins.use[provider])
            rivals = [entry for entry in rivals if normalize_name(metadata_field(entry, "Name")) == chosen]
        elif (ours := OURS.get(provider)) and all(metadata_field(rival, "Name") != ours for rival in rivals):
            claimant = metadata_field(rivals[0], "Name")
            raise PluginConflict(
                f"provider {provider!r} is that of {ours}, and {claimant} claims its name; install {ours}, or say that "
                f'you mean the other: [plugins.use] {provider} = "{claimant}"'
            )
        if len(rivals) == 1:
            return rivals[0]
        claimants = listed(metadata_field(entry, "Name") for entry in self._claims[provider])
        if not rivals:
            raise PluginConflict(
                f"[plugins.use] {provider} names {self._plugins.use[provider]!r}, but it is claimed by {claimants}"
            )
        raise PluginConflict(
            f"provider {provider!r} is claimed by {claimants}; uninstall one, or choose in the configuration: "
            f'[plugins.use] {provider} = "…"'
        )

    def _not_found(self, provider: str) -> ProviderNotFound:
        if provider in self._claims:
            return ProviderNotFound(f"provider {provider!r} is installed but {self._hindrance(provider)}; add it there")
        installed = f"no provider {provider!r}; installed: {listed(self.names())}"
        if provider in OURS:
            return ProviderNotFound(f"{installed}. pip install {OURS[provider]}")
        hint = did_you_mean(provider, self.names(), likeness=_LIKENESS)
        lead_in = f"{hint} Else look" if hint else "; look"
        # Only what may be a package's name is repeated as one: it may come from a request's path, and goes to the log.
        called = (
            f"for a package {package}, as it is called by convention, or " if (package := _package_of(provider)) else ""
        )
        return ProviderNotFound(
            f"{installed}{lead_in} {called}in the catalogue, docs/providers/catalogue.md, and see who made it before "
            "you install it"
        )

    def _load_provider(self, name: str, entry: EntryPoint) -> object:
        plugin = self._load(f"provider {name!r}", entry)
        if not any(self.hooks.transport(plugin, channel) for channel in Channel):
            raise ContractViolation(
                f"provider {name!r} ({describe(entry)}) gives no transport: postroom_email_transport or "
                "postroom_sms_transport, marked with @hookimpl"
            )
        return plugin

    def _load(self, what: str, entry: EntryPoint) -> object:
        """Import and register what `entry` names; one module may stand behind several names."""
        try:
            plugin: object = entry.load()
            check_interface(what, plugin)
            unknown = self.hooks.register(plugin, f"{entry.group}:{entry.name}")
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginLoadError(f"{what} ({describe(entry)}) cannot be loaded: {_cause(error)}") from error
        if unknown:
            raise ContractViolation(
                f"{what} ({describe(entry)}) implements {listed(unknown)}, which postroom does not call; the hooks "
                f"are {listed(hooks.NAMES)}"
            )
        return plugin

    def _demonstrations(self, provider: str, plugin: object) -> list[Demonstration]:
        try:
            return self.hooks.demonstrations(plugin)
        except (Exception, SystemExit) as error:
            raise PluginLoadError(f"provider {provider!r} cannot be shown: {_cause(error)}") from error

    def _from_hook(self, provider: str, plugin: object, channel: Channel) -> TransportClass | None:
        hook = self.hooks.transport(plugin, channel)
        if hook is None:
            return None
        try:
            transport: TransportClass = hook()
        except (Exception, SystemExit) as error:
            raise PluginLoadError(f"provider {provider!r} cannot be loaded: {_cause(error)}") from error
        check_transport(provider, transport, channel)
        return transport


def _package_of(provider: str) -> str:
    """Return what the package for a provider is called by convention; nothing for what can be no name of one."""
    fits = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,48}[A-Za-z0-9])?", provider)
    return f"postroom-{normalize_name(provider)}" if fits else ""


def _cause(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing == "aiohttp":
        return f"{text}; pip install 'postroom[http]'"
    return f"{text}; install what is missing" if missing else f"{text}; update or uninstall the plugin"
