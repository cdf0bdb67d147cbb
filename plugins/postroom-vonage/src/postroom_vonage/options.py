"""Vonage's `provider_options`: the fields of the SDK's own models that a message does not own."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from postroom.errors import InvalidOption
from postroom.plugin import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel, JsonValue

Kind = Literal["sms-api", "sms", "mms", "whatsapp"]
"""The form of the SMS API, or a channel of the Messages API."""

OWNED = {"to": "to", "from": "from", "from_": "from", "text": "body", "channel": "channel"}
"""Fields of Vonage -> the field of Sms that owns them."""


def fields_for(kind: Kind, options: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return `options` under their names on the wire, without those that are None.

    Raises InvalidOption for a field that `kind` does not have, that the message owns, or that its form cannot hold.
    """
    known = known_fields(kind)
    return {_wire_name(kind, name, known): value for name, value in options.items() if _has_value(kind, name, value)}


@lru_cache
def known_fields(kind: Kind) -> Mapping[str, str]:
    """Return every accepted spelling -> the name on the wire."""
    names: dict[str, str] = {}
    for model in _models(kind):
        for field, info in model.model_fields.items():
            names[field] = names[info.serialization_alias or field] = info.serialization_alias or field
    return {name: wire for name, wire in names.items() if name not in OWNED and name != "sig"}


def _models(kind: Kind) -> list[type[BaseModel]]:
    if kind == "sms-api":
        from vonage_sms import SmsMessage  # noqa: PLC0415 - 170 ms to import

        return [SmsMessage]
    from vonage_messages import models  # noqa: PLC0415 - 200 ms to import

    found: list[type[BaseModel]] = [
        model for model in vars(models).values() if isinstance(model, type) and issubclass(model, models.BaseMessage)
    ]
    channels = [(model, model.model_fields.get("channel")) for model in found]
    return [model for model, channel in channels if channel and channel.default == kind]


def _wire_name(kind: Kind, name: str, known: Mapping[str, str]) -> str:
    if name in known:
        return known[name]
    path = f"provider_options.{name}"
    if name in OWNED:
        raise InvalidOption(f"use the message's field {OWNED[name]}", path=path)
    api = "SMS API" if kind == "sms-api" else f"Messages API ({kind})"
    hint = did_you_mean(name.lower(), [*known, *OWNED]) or f"; it has {', '.join(sorted(set(known.values())))}"
    raise InvalidOption(f"Vonage's {api} has no such field{hint}", path=path)


def _has_value(kind: Kind, name: str, value: JsonValue) -> bool:
    if kind == "sms-api" and isinstance(value, (dict, list)):
        raise InvalidOption("must be text, a number, true or false", path=f"provider_options.{name}")
    return value is not None
