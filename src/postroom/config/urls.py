"""Account URLs: `smtp://user:pass@host:587?tls=starttls`, `twilio://SID:TOKEN@?from=%2B1500…`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from postroom.config.masking import masked_account
from postroom.config.model import Config, parse_config
from postroom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

URL_PARTS = "url-parts"
"""Key under which an account keeps the parts of its URL until its provider says which fields they are."""

_SHORTHANDS: dict[str, tuple[str, dict[str, str]]] = {"smtps": ("smtp", {"tls": "implicit"})}


def config_from_urls(urls: Iterable[SecretStr], defaults: Mapping[str, SecretStr | None]) -> Config:
    """Return a configuration of one account per URL; `defaults` has the URL for a channel's default."""
    accounts: dict[str, dict[str, Any]] = {}
    chosen: dict[str, str] = {}
    for channel, url in defaults.items():
        if url:
            name = chosen[channel] = f"{channel}-url"
            accounts[name] = account_from_url(url, source=f"the {channel} URL")
    for number, url in enumerate(urls, start=1):
        account = account_from_url(url, source=f"URL {number}")
        name = account["provider"]
        accounts[name if name not in accounts else f"{name}-{number}"] = account
    return parse_config({"accounts": accounts, "defaults": chosen})


def account_from_url(url: str | SecretStr, *, source: str) -> dict[str, Any]:
    """Return the account table that `url` describes, masked; `source` says where it came from, for errors.

    The scheme is the provider, the query its settings; user, password, host, port and path go to the fields
    the provider names in `url_fields`. A `+` stands for itself, as in a phone number. The URL, which may hold
    a password, is never shown.
    """
    # What raises has no plain text among its variables, where a debugger or an error tracker would show it.
    url = url if isinstance(url, SecretStr) else SecretStr(url)
    table = _table(url.get_secret_value())
    if table is None:
        raise ConfigError(f"{source} is not a URL; write it like smtp://user:password@host:587")
    if not table["provider"]:
        raise ConfigError(f"{source} must begin with a provider, like smtp:// or twilio://")
    return table


def _table(url: str) -> dict[str, Any] | None:
    """Return the table of a URL, masked: without a provider where it names none, None for what is no URL."""
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError:
        return None
    if not found.scheme or not url.lower().startswith(f"{found.scheme}://"):
        return {"provider": ""}
    provider, extra = _SHORTHANDS.get(found.scheme, (found.scheme, {}))
    parts = {
        "username": unquote(found.username or ""),
        "password": unquote(found.password or ""),
        "host": found.hostname or "",
        "port": str(port or ""),
        "path": unquote(found.path) if found.path != "/" else "",
    }
    given = {name: value for name, value in parts.items() if value}
    query = dict(parse_qsl(found.query.replace("+", "%2B"), keep_blank_values=True))
    table: dict[str, Any] = masked_account({"provider": provider, **extra, **query, URL_PARTS: given})
    return table
