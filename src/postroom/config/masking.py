"""Masking of what accounts are set to, from the moment it is read.

So no `repr`, debugger or error tracker shows a secret, whether it came from a file, the environment, a URL or code.
Which setting is a secret only its provider knows, which is loaded later. So every text of an account is a SecretStr
but those that all accounts have, until its settings model is validated with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from postroom.plugin.settings import AccountSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN = frozenset({*AccountSettings.model_fields, "from"})
"""Settings of every account, whatever its provider: none is a secret."""

_REFERENCES = ({"env"}, {"file"})
"""Tables that say where a secret is; that is shown, since errors are about it."""


def masked_accounts(values: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of a configuration with the texts of its accounts masked."""
    accounts = values.get("accounts")
    if not isinstance(accounts, Mapping):
        return values
    return {**values, "accounts": {name: masked_account(account) for name, account in accounts.items()}}


def masked_account(account: Any) -> Any:
    """Return the table of an account with its texts masked; what is no table stays as it is."""
    if not isinstance(account, Mapping):
        return account
    return {name: masked_setting(name, value) for name, value in account.items()}


def masked_setting(name: object, value: Any) -> Any:
    """Return the value of an account's setting, masked unless every account has that setting."""
    return value if name in SHOWN else _masked(value)


def masked_urls(
    urls: Iterable[str], by_channel: Mapping[str, str | None]
) -> tuple[list[SecretStr], dict[str, SecretStr | None]]:
    """Return account URLs, and those that are a channel's default, masked."""
    defaults = {channel: SecretStr(url) if url else None for channel, url in by_channel.items()}
    return [SecretStr(url) for url in urls], defaults


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return SecretStr(value)
    if isinstance(value, Mapping):
        return value if value.keys() in _REFERENCES else {name: _masked(inner) for name, inner in value.items()}
    return [_masked(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def unmasked(value: Any) -> Any:
    """Return a value of a configuration with plain texts in place of masked ones."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {name: unmasked(inner) for name, inner in value.items()}
    return [unmasked(inner) for inner in value] if isinstance(value, list) else value
