"""The configuration as postroom itself understands it; an account's own settings belong to its provider."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from postroom.config.gateway import GatewaySettings
from postroom.config.outbox import OutboxSettings
from postroom.config.section import Section
from postroom.errors import ConfigError, InvalidOption, MissingCredential
from postroom.plugin.settings import AccountSettings
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

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

    An account is `provider` and that provider's settings: a table, or a settings object when built in code.
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
                    hint = nearest(via, self.accounts)
                    raise InvalidOption(f"no account {via!r}{hint}", path=f"routes.{name}.via")
        return self

    def provider_of(self, account: str) -> str:
        """Return the provider of a configured account."""
        source = self.accounts[account]
        return source.provider if isinstance(source, AccountSettings) else str(source["provider"])


def parse_config(values: Mapping[str, Any]) -> Config:
    """Return the configuration in `values`; raises ConfigError with the dotted path of what is wrong."""
    return validated(Config, values)


def validated(model: type[ModelT], values: object, path: str = "") -> ModelT:
    """Validate `values`; a problem becomes a ConfigError that names the setting below `path`.

    A missing secret is a MissingCredential, everything else an InvalidOption. Values are never shown.
    """
    try:
        return model.model_validate(values)
    except ConfigError as error:
        if not path:
            raise
        raise type(error)(str(error), path=path) from error
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    except Exception as error:
        raise ConfigError(
            f"{model.__name__} raised {type(error).__name__}, a fault in the plugin", path=path
        ) from error
    told = [_told(model, problem, path) for problem in problems]
    kind = MissingCredential if all(_lacks_secret(model, p) for p in problems) else InvalidOption
    first_path, first = told[0]
    more = "".join(f"\n{where}: {what}" if where else f"\n{what}" for where, what in told[1:])
    raise kind(first + more, path=first_path or None)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the known name nearest to `word`, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def _told(model: type[BaseModel], problem: ErrorDetails, path: str) -> tuple[str, str]:
    where = ".".join(str(part) for part in (path, *problem["loc"]) if part != "")
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        return where, f"unknown key{nearest(key, _keys_at(model, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return where, "is required but not set"
    return where, problem["msg"].removeprefix("Value error, ")


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] | None = model
    for part in location:
        if current is not None and part in current.model_fields:
            current = _model_in(current.model_fields[str(part)].annotation)
    return [] if current is None else list(setting_names(current))


def setting_names(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the model's fields under the names a configuration uses (`from`, not `from_`)."""
    return {info.serialization_alias or name: info for name, info in model.model_fields.items()}


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _lacks_secret(model: type[BaseModel], problem: ErrorDetails) -> bool:
    field = model.model_fields.get(str(problem["loc"][-1])) if len(problem["loc"]) == 1 else None
    return problem["type"] == "missing" and field is not None and is_secret(field)


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting holds a secret."""
    return SecretStr in (field.annotation, *get_args(field.annotation))
