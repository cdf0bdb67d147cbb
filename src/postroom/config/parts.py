"""A configuration put together in code, from the parts that `Postroom` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.config.model import Config, parse_config

if TYPE_CHECKING:
    from collections.abc import Mapping


def config_from_parts(config: Config | None, parts: Mapping[str, Any]) -> Config:
    """Return `config`, or one made of its parts (a table each, a list for `rules`), of which None is empty.

    Raises TypeError for both, or for what is no Config, and ConfigError with the dotted path of a wrong setting.
    """
    if config is None:
        tables = {name: dict(parts[name] or {}) for name in ("routes", "defaults", "outbox")}
        return parse_config({**tables, "accounts": dict(parts["accounts"] or {}), "rules": list(parts["rules"])})
    if not isinstance(config, Config):
        raise TypeError(
            f"takes a Config, or accounts=…, not {type(config).__name__}; a file is read by Postroom.from_config(path)"
        )
    if any(parts.values()):
        raise TypeError("give a Config, or accounts, routes, defaults, rules and outbox, but not both")
    return config
