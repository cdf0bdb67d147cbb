"""One account's table -> the settings object its provider defines, with secrets fetched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from postroom.config.model import nearest, setting_names, validated
from postroom.config.urls import URL_PARTS
from postroom.errors import InvalidOption, MissingCredential
from postroom.plugin.settings import AccountSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


def account_settings(name: str, source: object, model: type[AccountSettings]) -> AccountSettings:
    """Return the validated settings of account `name`.

    `source` is its table, or ready settings. Raises InvalidOption or MissingCredential with the dotted path.
    """
    path = f"accounts.{name}"
    if isinstance(source, AccountSettings):
        if not isinstance(source, model):
            raise InvalidOption(f"needs a {model.__name__}, not a {type(source).__name__}", path=path)
        return source
    assert isinstance(source, dict)
    values = {key: _fetched(value, f"{path}.{key}") for key, value in _placed(source, model, path).items()}
    return validated(model, values, path)


def settings_from_environment(provider: str, model: type[AccountSettings]) -> AccountSettings | None:
    """Return settings made of the provider's own usual environment variables, or None if none is set."""
    found = {field: os.environ[name] for field, name in model.environment.items() if os.environ.get(name)}
    return validated(model, {"provider": provider, **found}, provider) if found else None


def settings_for_message(
    provider: str, model: type[AccountSettings], options: Mapping[str, SecretStr], base: AccountSettings | None
) -> AccountSettings:
    """Return settings with the credentials a message brings in `options`, over those of `base`.

    An option is a field, `<provider>_<field>`, or one of the provider's `message_options`. The sender and
    limits of `base` stay; its other credentials do not, so that two accounts never mix.
    """
    given = {_option_field(provider, model, name): secret for name, secret in options.items()}
    kept = _without_credentials(base) if base else {}
    values: dict[str, Any] = {"provider": provider, **kept}
    for field, secret in given.items():
        values[field] = secret.get_secret_value()
    return validated(model, values, "options")


def _option_field(provider: str, model: type[AccountSettings], name: str) -> str:
    fields = setting_names(model)
    field = model.message_options.get(name) or name.removeprefix(f"{provider}_")
    if field not in fields:
        known = [*model.message_options, *fields]
        raise InvalidOption(f"provider {provider!r} has no such option{nearest(name, known)}", path=f"options.{name}")
    return field


def _without_credentials(base: AccountSettings) -> dict[str, Any]:
    credentials = set(base.environment) | set(base.message_options.values())
    values = base.model_dump(by_alias=True, exclude_none=True)
    return {
        name: value for name, value in values.items() if name not in credentials and not isinstance(value, SecretStr)
    }


def _placed(source: dict[str, Any], model: type[AccountSettings], path: str) -> dict[str, Any]:
    """Move the parts of an account URL to the fields the provider gives them."""
    values = dict(source)
    for part, value in values.pop(URL_PARTS, {}).items():
        field = model.url_fields.get(part)
        if field is None:
            raise InvalidOption(f"the URL of provider {values['provider']!r} takes no {part}", path=path)
        values.setdefault(field, value)
    return values


def _fetched(value: object, path: str) -> object:
    """Fetch a secret given as `{ env = "NAME" }` or `{ file = "path" }`; leave other values as they are."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    (kind, where), *_ = value.items()
    if kind == "env" and isinstance(where, str):
        if where not in os.environ:
            raise MissingCredential(f"environment variable {where} is not set", path=path)
        return os.environ[where]
    if kind == "file" and isinstance(where, str):
        try:
            return Path(where).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise MissingCredential(f"cannot read {where}: {error}", path=path) from error
    return value
