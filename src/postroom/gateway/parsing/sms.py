"""Parsing an SMS of a request into an `Sms`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.errors import MessageError
from postroom.gateway.http.errors import ApiError, Problem, invalid_message
from postroom.gateway.parsing.fields import (
    check_count,
    check_lengths,
    field_path,
    is_too_long,
    parse_bool,
    problems_of,
    shared_fields,
)
from postroom.messages import Sms

if TYPE_CHECKING:
    from postroom.config.gateway import GatewaySettings

MOST_MEDIA = 10
"""As many as Twilio takes for one message (Messages resource, MediaUrl)."""

MOST_OPTIONS = 20
"""Twice what the provider with the most credentials knows."""


def parse_sms(item: dict[str, Any], limits: GatewaySettings) -> Sms:
    """Return the SMS in `item`, one object of the wire.

    `data` holds `from`, `to` (one number or a list), `body` and `mediaUrl`; they may stand flat in the item
    too. `options` are credentials for this message alone. Raises ApiError (400 with the path of every wrong
    field; 403 for credentials where they are not allowed).
    """
    problems: list[Problem] = []
    data, prefix = (item["data"], "data.") if isinstance(item.get("data"), dict) else (item, "")
    options = item.get("options")
    if not isinstance(options, (dict, type(None))) and options not in ("", []):
        problems.append(Problem("options", "must be an object"))
    given = options if isinstance(options, dict) else {}
    if len(given) > MOST_OPTIONS:
        problems.append(Problem("options", f"has {len(given):,} entries; at most {MOST_OPTIONS} are taken"))
        given = {}
    fields = {**shared_fields(item), **shared_fields(data), "to": _numbers(data, prefix, limits, problems)}
    fields["options"] = _credentials(given, problems)
    if fields["options"] and limits.request_credentials == "deny":
        raise ApiError(403, "credentials_not_allowed", "This service takes no credentials in requests; leave them out.")
    fields["required"] = _required(item, data, given, problems)
    fields |= {name: value for name, value in _contents(data).items() if value not in (None, "")}
    check_count(fields, "media", MOST_MEDIA, problems, f"{prefix}mediaUrl")
    check_lengths(fields, "media", problems, f"{prefix}mediaUrl")
    try:
        sms = Sms(**fields)
    except MessageError as error:
        known = bool(problems)
        problems += [Problem(_place(where, prefix), text) for where, text in problems_of(error) if where or not known]
    if problems:
        raise invalid_message(tuple(problems))
    return sms


def _contents(data: dict[str, Any]) -> dict[str, Any]:
    media = data.get("mediaUrl") or data.get("media_url") or data.get("media")
    return {"from": data.get("from"), "body": data.get("body"), "media": media}


def _numbers(data: dict[str, Any], prefix: str, limits: GatewaySettings, problems: list[Problem]) -> list[Any]:
    given = data.get("to")
    numbers = [given] if isinstance(given, str) and given.strip() else given
    if not numbers:
        problems.append(Problem(f"{prefix}to", "is missing: a number such as +442079460958, or a list of them"))
    elif not isinstance(numbers, list):
        problems.append(Problem(f"{prefix}to", "must be a number as a text, such as +442079460958, or a list of them"))
    elif len(numbers) > limits.max_recipients:
        most = f"at most {limits.max_recipients:,} are taken. Send several messages"
        problems.append(Problem(f"{prefix}to", f"has {len(numbers):,} recipients; {most}"))
    else:
        return numbers
    return []


def _credentials(options: dict[str, Any], problems: list[Problem]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in options.items():
        if name == "required" or value is None or value == "":
            continue
        if isinstance(value, str):
            if not is_too_long(value, f"options.{name[:100]}", problems):
                found[name] = value
        else:
            problems.append(Problem(f"options.{name[:100]}", "must be a text"))
    return found


def _required(item: dict[str, Any], data: dict[str, Any], options: dict[str, Any], problems: list[Problem]) -> bool:
    """Read `required` wherever it may stand: the pages of the API name the top and `options`."""
    places = {"required": item, "options.required": options, "data.required": data}
    return True in [parse_bool(holder.get("required"), path, problems) for path, holder in places.items()]


def _place(where: str, prefix: str) -> str:
    path = field_path(where, {"media": "mediaUrl"})
    return prefix + path if path.startswith(("to", "from", "body", "mediaUrl")) else path
