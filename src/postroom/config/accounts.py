"""Account settings: a table of the configuration -> its provider's settings object, with secrets fetched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from postroom.config.fields import is_secret, setting_names
from postroom.config.masking import masked_setting
from postroom.config.urls import URL_PARTS
from postroom.config.validation import validated
from postroom.errors import InvalidOption, MissingCredential
from postroom.plugin.files import read_secret_file
from postroom.plugin.settings import FROM_MESSAGE, AccountSettings
from postroom.validation import did_you_mean

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
    found = {
        field: masked_setting(field, os.environ[name]) for field, name in model.env_vars.items() if os.environ.get(name)
    }
    return validated(model, {"provider": provider, **found}, provider) if found else None


def settings_for_message(
    name: str, source: object, model: type[AccountSettings], options: Mapping[str, SecretStr]
) -> AccountSettings:
    """Return settings with the credentials a message brings in `options`, over those of account `name`.

    An option is a credential of the provider, `<provider>_<field>`, or one of its `message_options`. The
    account's sender, address and limits stay, and no option can change them; its other credentials do not stay,
    so that two accounts never mix.
    """
    path = f"accounts.{name}"
    given = source.model_dump(by_alias=True, exclude_none=True) if isinstance(source, AccountSettings) else source
    assert isinstance(given, dict)
    credentials = _credentials(model)
    values = {
        key: _fetched(value, f"{path}.{key}")
        for key, value in _placed(given, model, path).items()
        if key not in credentials
    }
    provider = str(values["provider"])
    for option, secret in options.items():
        values[_option_field(provider, model, option)] = secret
    return validated(model, values, "options", context={FROM_MESSAGE: True})


def _option_field(provider: str, model: type[AccountSettings], name: str) -> str:
    fields = _credentials(model)
    field = model.message_options.get(name) or name.removeprefix(f"{provider}_")
    if field not in fields:
        known = [*model.message_options, *fields]
        raise InvalidOption(
            f"provider {provider!r} has no such option{did_you_mean(name, known)}", path=f"options.{name}"
        )
    return field


def _credentials(model: type[AccountSettings]) -> set[str]:
    """Return the settings that say who sends, not where to: secrets, and what stands beside them."""
    secret = {name for name, field in setting_names(model).items() if is_secret(field)}
    address = {model.url_fields.get(part) for part in ("host", "port", "path")}
    return (secret | set(model.env_vars) | set(model.message_options.values())) - address


def _placed(source: dict[str, Any], model: type[AccountSettings], path: str) -> dict[str, Any]:
    """Move the parts of an account URL to the fields the provider gives them."""
    values = dict(source)
    parts = values.pop(URL_PARTS, {})
    if not isinstance(parts, dict):
        raise InvalidOption("unknown key", path=f"{path}.{URL_PARTS}")
    for part, value in parts.items():
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
        return SecretStr(os.environ[where])
    if kind == "file" and isinstance(where, str):
        try:
            return SecretStr(read_secret_file(where).rstrip("\r\n"))
        except (OSError, ValueError) as error:
            raise MissingCredential(f"cannot read {where}: {error}", path=path) from error
    return value
