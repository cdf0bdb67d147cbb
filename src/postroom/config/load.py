"""Loader of the configuration: a TOML file, overlaid by the environment."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from postroom.config.masking import masked_accounts, masked_setting
from postroom.config.model import Config, parse_config
from postroom.config.urls import account_from_url
from postroom.errors import ConfigError, InvalidOption
from postroom.validation import did_you_mean

CONFIG_VARIABLE = "POSTROOM_CONFIG"
DEFAULT_FILE = "postroom.toml"
PLUGINS_VARIABLE = "POSTROOM_PLUGINS"
PREFIX = "POSTROOM_"
SECTIONS = tuple(Config.model_fields)
URL_VARIABLES = {"email": "POSTROOM_EMAIL_URL", "sms": "POSTROOM_SMS_URL"}


def load_config(path: str | Path | None = None) -> Config:
    """Read `path`, else the file POSTROOM_CONFIG names, else `./postroom.toml` if there is one.

    Every value can come from the environment instead (`POSTROOM_ACCOUNTS__MAIN__PASSWORD`), and an account
    for a channel from POSTROOM_EMAIL_URL or POSTROOM_SMS_URL. Raises ConfigError with the dotted path.
    """
    file = config_file(path)
    values = _read(file) if file else {}
    return parse_config(_with_urls(_overlaid(values, _from_environment())))


def config_file(path: str | Path | None = None) -> Path | None:
    """Return the file that `load_config` would read, or None when there is none."""
    named = path or os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        return masked_accounts(tomllib.loads(file.read_bytes().decode()))
    except OSError as error:
        raise ConfigError(
            f"cannot read {file}: {error.strerror}; write one with `postroom init`, or name another with --config"
        ) from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # no TOML, no text, a number of thousands of digits, nested without end
        problem = str(error)
    # Out of the handler: the parser's own error keeps the whole text, passwords and all, in its traceback.
    raise ConfigError(f"{file} is not valid TOML: {problem}")


def _from_environment() -> dict[str, Any]:
    """Return what POSTROOM_SECTION__NAME__KEY variables say, as nested tables.

    A value of an account is taken as it is written, since it may be a secret that looks like JSON; elsewhere
    one in square brackets is a list.
    """
    tree: dict[str, Any] = {}
    for variable in os.environ:
        section, *keys = variable.removeprefix(PREFIX).lower().split("__")
        if not variable.startswith(PREFIX) or variable == PLUGINS_VARIABLE or not (keys or section in SECTIONS):
            continue
        if section not in SECTIONS:
            raise InvalidOption(f"unknown section{did_you_mean(section, SECTIONS)}", path=variable)
        _plant(tree, [section, *keys], _from_variable(variable, section, keys), variable)
    return tree


def _from_variable(variable: str, section: str, keys: list[str]) -> object:
    if section == "accounts":
        return masked_setting(keys[-1] if keys else "", os.environ[variable])
    return _list_or_text(os.environ[variable], variable)


def _plant(tree: dict[str, Any], keys: list[str], value: object, variable: str) -> None:
    *above, last = keys
    for key in above:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise InvalidOption(f"another variable sets all of {key!r}", path=variable)
    if not above:
        raise InvalidOption(f"names a whole section; write it like {variable}__NAME__KEY", path=variable)
    if last in tree:
        raise InvalidOption(f"another variable sets {last!r} too", path=variable)
    tree[last] = value


def _list_or_text(value: str, variable: str) -> object:
    if not value.startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise InvalidOption("is not a JSON list", path=variable) from None


def _overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one tree over another.

    Names match whatever their case, and `-` matches `_`: an environment variable has only capitals and `_`.
    """
    merged = dict(below)
    same = {_plain(key): key for key in below}
    for key, value in above.items():
        name = same.get(_plain(key), key)
        old = merged.get(name)
        merged[name] = _overlaid(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _with_urls(values: dict[str, Any]) -> dict[str, Any]:
    """Add the accounts that POSTROOM_EMAIL_URL and POSTROOM_SMS_URL describe, as their channel's default."""
    for channel, variable in URL_VARIABLES.items():
        if not os.environ.get(variable):
            continue
        name = f"{channel}-url"
        account = account_from_url(SecretStr(os.environ[variable]), source=variable)
        values = _overlaid({"accounts": {name: account}, "defaults": {channel: name}}, values)
    return values
