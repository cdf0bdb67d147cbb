"""Configuration files for the trials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ordeal.servers import MailServer, PhoneServer


SENDER = "post@example.org"
NUMBER = "+15005550006"


def smtp(server: MailServer, **settings: Any) -> dict[str, Any]:
    """An account at a recording SMTP server."""
    return {"provider": "smtp", "host": "127.0.0.1", "port": server.port, "tls": "none", "from": SENDER, **settings}


def twilio(server: PhoneServer, **settings: Any) -> dict[str, Any]:
    """An account at a recording Twilio."""
    return {
        "provider": "twilio", "account_sid": "AC" + "0" * 32, "auth_token": "t" * 32, "from": NUMBER,
        "base_url": f"http://127.0.0.1:{server.port}", **settings,
    }  # fmt: skip


def sink(**settings: Any) -> dict[str, Any]:
    return {"provider": "sink", "from": SENDER, **settings}


def written(
    folder: Path, accounts: dict[str, dict[str, Any]], *, routes: dict[str, list[str]] | None = None, **outbox: Any
) -> Path:
    """Write `postroom.toml` into `folder`, with the outbox beside it, and return its path.

    `routes` are named after the channel they are the default of.
    """
    path = folder / "postroom.toml"
    tables = {"outbox": {"url": f"sqlite:///{folder / 'outbox.db'}", **outbox}}
    tables |= {f"accounts.{name}": table for name, table in accounts.items()}
    if routes:
        tables |= {f"routes.{name}": {"via": via} for name, via in routes.items()}
        tables["defaults"] = {name: name for name in routes}
    path.write_text("\n".join(line for name, table in tables.items() for line in _lines(name, table)))
    return path


def _lines(name: str, table: dict[str, Any]) -> list[str]:
    return [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items()), ""]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
