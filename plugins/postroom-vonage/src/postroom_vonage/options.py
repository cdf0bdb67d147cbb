"""What `provider_options` may add to a request: the fields of the SDK's own models that a message does not have."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from postroom.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import BaseModel, JsonValue

_MODELLED = frozenset(
    {"to", "from", "text", "image", "audio", "video", "vcard", "channel", "message_type", "sig", "type"}
)
Kind = Literal["sms-api", "sms", "mms", "whatsapp"]


def fields_for(kind: Kind, options: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return `options` under the names the API uses. Raises InvalidOption for a field the API does not have."""
    return {_wire_name(kind, name): value for name, value in options.items()}


def _wire_name(kind: Kind, name: str) -> str:
    known = _names(kind)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InvalidOption(
        f"Vonage has no such option here; {hint}known: {', '.join(sorted(set(known.values())))}",
        path=f"provider_options.{name}",
    )


@lru_cache
def _names(kind: Kind) -> dict[str, str]:
    """Every accepted spelling -> the name on the wire."""
    names: dict[str, str] = {}
    for model in _models(kind):
        for field, info in model.model_fields.items():
            wire = info.serialization_alias or field
            if wire not in _MODELLED:
                names[field] = names[wire] = wire
    return names


def _models(kind: Kind) -> Iterable[type[BaseModel]]:
    if kind == "sms-api":
        from vonage_sms import SmsMessage  # noqa: PLC0415 - 150 ms to import

        return [SmsMessage]
    from vonage_messages import models  # noqa: PLC0415 - 200 ms to import

    return {"sms": [models.Sms], "mms": [models.MmsImage], "whatsapp": [models.WhatsappText]}[kind]
