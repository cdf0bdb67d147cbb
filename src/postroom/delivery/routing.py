"""Which accounts a message may go through, in which order: provider field, else rule, else default."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from postroom.delivery.accounts import Target
from postroom.errors import PluginError, ProviderNotFound
from postroom.messages import Email, Message, Sms
from postroom.receipts import Channel
from postroom.validation import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from postroom.config.model import Config, RouteSettings, Rule
    from postroom.registry.registry import Registry


class PlannedRoute(NamedTuple):
    """One way of a message: the part of it that goes there, the route's name, and its accounts in the order to try."""

    message: Message
    name: str
    targets: Sequence[Target]


class Router:
    """Turns a message into the accounts to try, in order.

    Round-robin routes begin with the next account each time; weighted ones draw from `rng`.
    """

    def __init__(self, config: Config, registry: Registry, *, rng: random.Random | None = None) -> None:
        self._config = config
        self._registry = registry
        self._rng = rng or random.Random()  # noqa: S311 - shares load, guards nothing
        self._uses: Counter[str] = Counter()
        self._only_accounts: dict[Channel, str] = {}
        self._targets = {name: Target(name, config.provider_of(name)) for name in config.accounts}
        self._constant: dict[tuple[str | None, Channel], tuple[str, Sequence[Target]]] = {}

    def plan(self, message: Message) -> list[PlannedRoute]:
        """Return the accounts to try for `message`, in order, and let round-robin routes go on by one.

        More than one way is planned only for an SMS to several recipients that the rules send different ways.
        Raises ProviderNotFound.
        """
        constant = self._constant.get((message.provider, message.channel_name))
        if constant:  # what no rule, rotation or draw can change is looked up once
            return [PlannedRoute(message, *constant)]
        planned = self.peek(message)
        for part, name, targets in planned:
            route = self._config.routes.get(name)
            if route and route.strategy != "failover":
                self._uses[name] += 1
            elif message.provider or not self._config.rules:
                self._constant[message.provider, part.channel_name] = name, targets
        return planned

    def peek(self, message: Message) -> list[PlannedRoute]:
        """Return what `plan` would return now, and let no route go on."""
        return [self._planned(part) for part in self.split_by_route(message)]

    def split_by_route(self, message: Message) -> list[Message]:
        """Split an SMS to several recipients where the rules send them different ways."""
        if message.provider or not self._config.rules or not isinstance(message, Sms):
            return [message]
        ways: dict[str, list[str]] = {}
        for recipient in message.recipients:
            alone = message.stamped(to=(recipient,), recipients=(recipient,))
            ways.setdefault(self.route_for(alone), []).append(recipient)
        return [message.for_recipients(group) for group in ways.values()]

    def names_in_use(self) -> list[tuple[str, Channel]]:
        """Every name that defaults and rules choose, with each channel it is chosen for."""
        defaults = self._config.defaults
        chosen = [(name, channel) for channel in Channel if (name := defaults.for_channel(channel))]
        ruled = [(rule.use, channel) for rule in self._config.rules for channel in _channels(rule)]
        return chosen + ruled

    def route_for(self, message: Message) -> str:
        """Return the name of the route, account or provider that takes `message`."""
        if message.provider:
            return message.provider
        rule = rule_for(self._config, message)
        if rule:
            return rule.use
        return self._config.defaults.for_channel(message.channel_name) or self._only_account(message.channel_name)

    def targets(self, name: str, channel: Channel) -> tuple[Target, ...]:
        """Return the accounts behind a route, account or provider name, in the order to try them now."""
        route = self._config.routes.get(name)
        if route:
            return tuple(self._targets[account] for account in self._ordered(name, route))
        account = self._targets.get(name)
        if account:
            return (account,)
        return (self._provider(name, channel),)

    def account(self, name: str) -> Target:
        """Return the account of that name, or the provider used on its own. Raises ProviderNotFound."""
        found = self._targets.get(name)
        if found or self._registry.knows(name):
            return found or Target(name, name, configured=False)
        hint = did_you_mean(name, self._targets)
        raise ProviderNotFound(f"no account {name!r}; accounts: {', '.join(sorted(self._targets)) or 'none'}{hint}")

    @property
    def accounts(self) -> Iterable[str]:
        """The names of the configured accounts."""
        return self._targets

    def uses(self, name: str) -> list[tuple[Target, Channel]]:
        """Return the channels that an account, or a provider used on its own, carries. Raises PluginError."""
        if name in self._targets:
            target = self._targets[name]
            return [(target, channel) for channel in self._registry.channels(target.provider)]
        return [(target, c) for c in self._registry.channels(name) for target in self.targets(name, c)]

    def _planned(self, message: Message) -> PlannedRoute:
        name = self.route_for(message)
        return PlannedRoute(message, name, self.targets(name, message.channel_name))

    def _ordered(self, name: str, route: RouteSettings) -> Sequence[str]:
        if route.strategy == "round_robin":
            first = self._uses[name] % len(route.via)
            return route.via[first:] + route.via[:first]
        if route.strategy == "weighted":
            return self._drawn(route)
        return route.via

    def _drawn(self, route: RouteSettings) -> list[str]:
        left, order = list(route.via), []
        while left:
            weights = [route.weights.get(account, 1.0) for account in left]
            order.append(self._rng.choices(left, weights)[0])
            left.remove(order[-1])
        return order

    def _provider(self, name: str, channel: Channel) -> Target:
        own = [account for account in self._config.accounts if self._config.provider_of(account) == name]
        if len(own) == 1:
            return self._targets[own[0]]
        if len(own) > 1:
            raise ProviderNotFound(
                f"provider {name!r} has several accounts ({', '.join(sorted(own))}); name the account or a route"
            )
        if self._registry.knows(name):
            return Target(name, name, configured=False)
        self._explain(name, channel)
        raise AssertionError(name)

    def _explain(self, name: str, channel: Channel) -> None:
        ours = [*self._config.routes, *self._config.accounts]
        try:
            self._registry.transport(name, channel)
        except ProviderNotFound as error:
            hint = did_you_mean(name, ours)
            configured = f"; routes and accounts: {', '.join(sorted(ours)) or 'none'}{hint}"
            raise ProviderNotFound(f"{error}{configured}") from None

    def _only_account(self, channel: Channel) -> str:
        if channel not in self._only_accounts:
            self._only_accounts[channel] = self._sole_carrier(channel)
        return self._only_accounts[channel]

    def _sole_carrier(self, channel: Channel) -> str:
        able = [name for name in self._config.accounts if self._carries(name, channel)]
        if len(able) == 1:
            return able[0]
        if not able:
            self._explain_accounts()
            raise ProviderNotFound(
                f"no account for {channel}: add one to the configuration (`postroom init` writes a first one), set "
                f"POSTROOM_{channel.upper()}_URL, or name an installed provider: {', '.join(self._registry.names())}"
            )
        raise ProviderNotFound(
            f"several accounts carry {channel} ({', '.join(able)}): choose one as [defaults] {channel}, or name one "
            "as the message's provider"
        )

    def _explain_accounts(self) -> None:
        """Raise the PluginError of the first account whose provider cannot be used."""
        for name in self._config.accounts:
            self._registry.channels(self._config.provider_of(name))

    def _carries(self, account: str, channel: Channel) -> bool:
        try:
            return channel in self._registry.channels(self._config.provider_of(account))
        except PluginError:
            return False


def rule_for(config: Config, message: Message) -> Rule | None:
    """Return the first rule that fits a message, whatever provider it names."""
    return next((rule for rule in config.rules if _matches(rule, message)), None)


def names_chosen(config: Config, message: Message) -> frozenset[str]:
    """Return the route, account or provider that a message names, or else those that rules and defaults choose."""
    if message.provider:
        return frozenset({message.provider})
    alone = (
        (message.stamped(to=(r,), recipients=(r,)) for r in message.recipients)
        if isinstance(message, Sms)
        else [message]
    )
    default = config.defaults.for_channel(message.channel_name)
    chosen = (rule.use if (rule := rule_for(config, one)) else default for one in alone)
    return frozenset(name or "" for name in chosen)


def accounts_by_rule(config: Config, message: Message) -> list[tuple[str, ...]]:
    """Return, for each recipient, the accounts that the rules have send to it; none where no rule fits."""
    alone = (message.stamped(to=(r,), recipients=(r,)) for r in message.recipients)
    return [_accounts_of(config, rule.use) if (rule := rule_for(config, one)) else () for one in alone]


def _accounts_of(config: Config, name: str) -> tuple[str, ...]:
    """The accounts that a route, account or provider name stands for; a provider without one is its own."""
    route = config.routes.get(name)
    if route or name in config.accounts:
        return tuple(route.via) if route else (name,)
    return tuple(account for account in config.accounts if config.provider_of(account) == name) or (name,)


def _channels(rule: Rule) -> list[Channel]:
    """The channel a rule is for; none when it does not say, since its account may carry one only."""
    if rule.channel:
        return [rule.channel]
    return ([Channel.SMS] if rule.country else []) + ([Channel.EMAIL] if rule.domain else [])


def _matches(rule: Rule, message: Message) -> bool:
    return (
        (rule.channel is None or rule.channel is message.channel_name)
        and (rule.category is None or rule.category == message.category)
        and (not rule.country or _goes_to_country(rule, message))
        and (not rule.domain or _goes_to_domain(rule, message))
    )


def _goes_to_country(rule: Rule, message: Message) -> bool:
    if not isinstance(message, Sms):
        return False
    return all(country_of(number) in rule.country for number in message.recipients)


def _goes_to_domain(rule: Rule, message: Message) -> bool:
    if not isinstance(message, Email):
        return False
    return all(address.rpartition("@")[2].lower() in rule.domain for address in message.recipients)


def country_of(number: str) -> str | None:
    """Return the ISO 3166 code of the country an E.164 number belongs to, or None when it has none."""
    import phonenumbers  # noqa: PLC0415 - costly to import

    parsed = phonenumbers.parse(number)
    return phonenumbers.region_code_for_number(parsed) or phonenumbers.region_code_for_country_code(
        parsed.country_code or 0
    )
