"""Reading the configuration: a TOML file, overlaid by the environment."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from postroom.config.model import Config, nearest, parse_config
from postroom.config.urls import account_from_url
from postroom.errors import ConfigError, InvalidOption

CONFIG_VARIABLE = "POSTROOM_CONFIG"
DEFAULT_FILE = "postroom.toml"
PREFIX = "POSTROOM_"
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
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {file}: {error.strerror}; write one with `postroom init`, or name another with --config"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error


class _Tree(BaseModel):
    """The shape of the nested environment variables, without judging their values."""

    defaults: dict[str, Any] = {}
    accounts: dict[str, Any] = {}
    routes: dict[str, Any] = {}
    rules: list[Any] = []
    plugins: dict[str, Any] = {}
    outbox: dict[str, Any] = {}
    gateway: dict[str, Any] = {}


def _from_environment() -> dict[str, Any]:
    for variable in os.environ:
        section = variable.removeprefix(PREFIX).split("__")[0].lower()
        if variable.startswith(PREFIX) and "__" in variable and section not in _Tree.model_fields:
            raise InvalidOption(f"unknown section{nearest(section, _Tree.model_fields)}", path=variable)
    from pydantic_settings import BaseSettings, EnvSettingsSource  # noqa: PLC0415 - costly to import

    class Tree(_Tree, BaseSettings):
        """What pydantic-settings reads."""

    try:
        return EnvSettingsSource(Tree, env_prefix=PREFIX, env_nested_delimiter="__")()
    except ValueError as error:
        raise ConfigError(f"the POSTROOM_ environment variables cannot be read: {error}") from error


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
        url = os.environ.get(variable)
        if not url:
            continue
        account = account_from_url(url, source=variable)
        accounts = {f"{channel}-url": account, **values.get("accounts", {})}
        defaults = {channel: f"{channel}-url", **values.get("defaults", {})}
        values = {**values, "accounts": accounts, "defaults": defaults}
    return values
