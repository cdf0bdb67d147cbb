"""Model of the configuration, as postroom itself understands it; an account's own settings belong to its provider."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    model_validator,
)

from postroom.config.gateway import GatewaySettings
from postroom.config.masking import masked_accounts
from postroom.config.outbox import OutboxSettings
from postroom.config.section import Section
from postroom.config.validation import validated
from postroom.errors import InvalidOption
from postroom.plugin.settings import AccountSettings
from postroom.receipts import Channel
from postroom.validation import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping


ModelT = TypeVar("ModelT", bound=BaseModel)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not a name; use letters, digits, '-', '_' and '.'")
    return value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Name = Annotated[str, AfterValidator(_name)]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


class Defaults(Section):
    """The route, account or provider that takes a message when nothing else chooses one."""

    email: str | None = None
    sms: str | None = None

    def for_channel(self, channel: Channel) -> str | None:
        return self.email if channel is Channel.EMAIL else self.sms


class RouteSettings(Section):
    """A name over several accounts.

    `failover` tries them in order; `round_robin` begins with the next one each time; `weighted` begins with
    one drawn by `weights` (account -> weight, 1 if not given). Whatever comes first, the others follow as
    failover, and only after an attempt that surely was not taken.
    """

    strategy: Literal["failover", "round_robin", "weighted"] = "failover"
    via: Names = Field(min_length=1)
    weights: dict[str, Annotated[float, Field(gt=0, le=1_000_000)]] = {}

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.weights and self.strategy != "weighted":
            raise ValueError('weights need strategy = "weighted"')
        if len(set(self.via)) < len(self.via):
            raise ValueError("via names an account twice")
        strangers = set(self.weights) - set(self.via)
        if strangers:
            raise ValueError(f"weights name {min(strangers)!r}, which is not in via")
        return self


class Rule(Section):
    """Chooses `use` (a route, account or provider) for a message that names no provider; first match wins.

    Every condition given must hold: `channel`, `country` (of an SMS recipient, ISO 3166 two-letter codes),
    `domain` (of every e-mail recipient), `category` (transactional or marketing).
    """

    use: str
    channel: Channel | None = None
    country: Annotated[tuple[Annotated[str, Field(pattern="^[A-Z]{2}$")], ...], BeforeValidator(_as_list)] = ()
    domain: Annotated[tuple[Annotated[str, StringConstraints(to_lower=True)], ...], BeforeValidator(_as_list)] = ()
    category: Literal["transactional", "marketing"] | None = None


class Plugins(Section):
    """Which plugins may load.

    `allow` names the providers that may, all when it is not set. `use` says for a provider's name which distribution
    alone may claim it. `extensions` are loaded in order.
    """

    allow: Names | None = None
    use: dict[str, str] = {}
    extensions: Names = ()


class Config(Section):
    """The whole configuration file.

    An account is `provider` and that provider's settings: a table, or a settings object when built in code. The texts
    of a table are masked, each a SecretStr, except those that every account has.
    `outbox` is where messages wait that are not sent at once. `gateway` is how
    `postroom serve` answers.
    """

    defaults: Defaults = Defaults()
    accounts: dict[Name, Any] = {}
    routes: dict[Name, RouteSettings] = {}
    rules: tuple[Rule, ...] = ()
    plugins: Plugins = Plugins()
    outbox: OutboxSettings = OutboxSettings()
    gateway: GatewaySettings = GatewaySettings()

    @model_validator(mode="before")
    @classmethod
    def _mask(cls, values: Any) -> Any:
        return masked_accounts(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for name, account in self.accounts.items():
            if not isinstance(account, (dict, AccountSettings)):
                raise InvalidOption("must be a table with provider and its settings", path=f"accounts.{name}")
            if isinstance(account, dict) and not isinstance(account.get("provider"), str):
                raise InvalidOption('needs provider = "…"', path=f"accounts.{name}.provider")
        for name, route in self.routes.items():
            if name in self.accounts:
                raise InvalidOption("is also the name of an account; choose another", path=f"routes.{name}")
            for via in route.via:
                if via not in self.accounts:
                    hint = did_you_mean(via, self.accounts)
                    raise InvalidOption(f"no account {via!r}{hint}", path=f"routes.{name}.via")
        return self

    @property
    def names_in_use(self) -> frozenset[str]:
        """Every name that stands for a way to send: accounts, their providers, routes, what defaults and rules use."""
        providers = map(self.provider_of, self.accounts)
        chosen = (self.defaults.email, self.defaults.sms, *(rule.use for rule in self.rules))
        return frozenset({*self.accounts, *providers, *self.routes, *filter(None, chosen)})

    def provider_of(self, account: str) -> str:
        """Return the provider of a configured account."""
        source = self.accounts[account]
        return source.provider if isinstance(source, AccountSettings) else str(source["provider"])


def parse_config(values: Mapping[str, Any]) -> Config:
    """Return the configuration in `values`; raises ConfigError with the dotted path of what is wrong."""
    return validated(Config, masked_accounts(dict(values)))
