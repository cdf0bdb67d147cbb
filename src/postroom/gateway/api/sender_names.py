"""Display names of senders: one with an address in it shows readers who did not send the mail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from postroom.gateway.access.keys import forbidden

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from postroom.messages import Email

_DOMAIN = re.compile(r"[@\uff20]\s*([\w-]+(?:\.[\w-]+)+)")
"""What follows an @, also a full-width one, and looks like a domain."""


class SenderNames:
    """Refuses names with an address of a domain that none of `accounts` sends from."""

    def __init__(self, accounts: Iterable[Any]) -> None:
        senders = (_sender(account) for account in accounts)
        self._domains = {sender.rpartition("@")[2].strip(" >").lower() for sender in senders if "@" in sender}

    def check(self, email: Email) -> None:
        """Raise ApiError (403) for a name with an address of another domain."""
        names = (email.from_name, email.from_.name if email.from_ else "")
        for domain in _DOMAIN.findall(" ".join(name for name in names if name)):
            if domain.lower() not in self._domains:
                raise forbidden(f"from_name holds an address of {domain}, which this service does not send from.")


def _sender(account: Mapping[str, Any] | Any) -> str:
    """The `from` of an account, which may be a table or a settings object."""
    found = account.get("from") if hasattr(account, "get") else getattr(account, "from_", None)
    return str(found or "")
