"""Parsing an e-mail of a request into an `Email`."""

from __future__ import annotations

from email.utils import getaddresses
from typing import TYPE_CHECKING, Any

from postroom.errors import MessageError
from postroom.gateway.http.errors import Problem, invalid_message
from postroom.gateway.parsing.attachments import parse_files
from postroom.gateway.parsing.fields import (
    check_count,
    check_lengths,
    field_path,
    is_too_long,
    parse_bool,
    problems_of,
    shared_fields,
)
from postroom.gateway.parsing.recipients import parse_recipients
from postroom.messages import MODELLED_HEADERS, Email

if TYPE_CHECKING:
    from postroom.config.gateway import GatewaySettings

DENIED_HEADERS = MODELLED_HEADERS | {
    "authentication-results",
    "dkim-signature",
    "domainkey-signature",
    "received-spf",
    "x-google-dkim-signature",
    "x-smtpapi",
}
DENIED_PREFIXES = ("arc-", "content-", "resent-")
"""Headers a caller may not set: fields own them, receivers trust them, or a provider takes orders from them."""

MOST_HEADERS = 100
"""Headers of its own that an e-mail may have; servers take headers of 64 KiB at the most."""

MOST_REPLY_TO = 50
MOST_TAGS = 50
MOST_METADATA = 100
"""All of these lists are counted before anything in them is looked at."""

Places = dict[str, str]

_ATTACHMENT_FIELDS = {"filename": "name", "content_type": "type", "content_id": "name"}


def parse_email(item: dict[str, Any], limits: GatewaySettings) -> Email:
    """Return the e-mail in `item`, one object of the wire.

    Tolerates what real clients send: empty texts, unknown fields, `{options, data}` from the JavaScript API,
    where `options` is the e-mail. Raises ApiError (400 with the path of every wrong field, or 413).
    """
    item = without_wrapping(item)
    problems: list[Problem] = []
    fields, places = _fields(item, limits, problems)
    try:
        email = Email(**fields)
    except MessageError as error:
        known = bool(problems)
        problems += [_problem(where, text, places) for where, text in problems_of(error) if where or not known]
    if problems:
        raise invalid_message(tuple(problems))
    return email


def without_wrapping(item: dict[str, Any]) -> dict[str, Any]:
    """Return the e-mail itself: the JavaScript API's batches hold `{options, data}`, with it in `options`."""
    options = item.get("options")
    return options if "to" not in item and isinstance(options, dict) and "to" in options else item


def _fields(item: dict[str, Any], limits: GatewaySettings, problems: list[Problem]) -> tuple[dict[str, Any], Places]:
    places: Places = {}
    fields = shared_fields(item)
    for group, found in parse_recipients(item, limits.max_recipients, problems).items():
        fields[group] = [address for _, address in found]
        places |= {f"{group}.{index}": path for index, (path, _) in enumerate(found)}
    files = [
        file
        for where in ("attachments", "images")
        for file in parse_files(item.get(where), where, limits.max_attachments, problems)
    ]
    fields["attachments"] = [file for _, file in files]
    places |= {f"attachments.{index}": path for index, (path, _) in enumerate(files)}
    fields["headers"] = _headers(item.get("headers"), problems)
    if reply_to := _reply_to(fields["headers"], problems):
        fields["reply_to"] = reply_to
    fields["required"] = parse_bool(item.get("required"), "required", problems)
    fields |= {
        name: item[name] for name in ("from", "subject", "from_name", "html", "tags", "metadata") if item.get(name)
    }
    for name, most in (("tags", MOST_TAGS), ("metadata", MOST_METADATA)):
        check_count(fields, name, most, problems)
    for name in ("subject", "tags", "metadata"):
        check_lengths(fields, name, problems)
    fields["text"] = item.get("text") or item.get("body") or (None if item.get("html") else "")
    return fields, places | {"text": "text" if item.get("text") else "body", "reply_to": "headers.Reply-To"}


def _headers(given: object, problems: list[Problem]) -> dict[str, Any]:
    if given is None or given in ("", []):
        return {}
    if not isinstance(given, dict):
        problems.append(Problem("headers", 'must be an object of texts, such as {"X-My-Header": "value"}'))
        return {}
    if len(given) > MOST_HEADERS:
        problems.append(Problem("headers", f"has {len(given):,} headers; at most {MOST_HEADERS} are taken"))
        return {}
    headers: dict[str, str] = {}
    for name, value in given.items():
        if name.lower() in DENIED_HEADERS or name.lower().startswith(DENIED_PREFIXES):
            problems.append(Problem(f"headers.{name[:100]}", "this header cannot be set; leave it out"))
        elif isinstance(value, (dict, list)):
            problems.append(Problem(f"headers.{name[:100]}", "must be a text"))
        elif not is_too_long(value, f"headers.{name[:100]}", problems) and value is not None and value != "":
            headers[name] = value if isinstance(value, str) else _written(value)
    return headers


def _written(value: float) -> str:
    """Write a number, or true and false, as JSON does."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reply_to(headers: dict[str, Any], problems: list[Problem]) -> list[str]:
    """Take Reply-To out of the headers; it may hold several addresses with commas between them."""
    name = next((name for name in headers if name.lower() == "reply-to"), None)
    if name is None:
        return []
    text = headers.pop(name)
    if text.count("@") < 2 or "\n" in text or "\r" in text:
        return [text]
    if text.count("@") > MOST_REPLY_TO:
        problems.append(Problem(f"headers.{name}", f"holds more than {MOST_REPLY_TO} addresses"))
        return []
    try:
        found = getaddresses([text])
    except RecursionError:
        problems.append(Problem(f"headers.{name}", "holds comments that are nested too deep to be read"))
        return []
    return [f'"{shown}" <{email}>' if shown else email for shown, email in found]


def _problem(where: str, text: str, places: Places) -> Problem:
    """Say it in the wire's words: `cc.0` may have stood at `to[1].email`, and `content_type` is called `type`."""
    if where.startswith("attachments."):
        field, separator, reason = text.partition(": ")
        if separator and field in _ATTACHMENT_FIELDS:
            return Problem(f"{field_path(where, places)}.{_ATTACHMENT_FIELDS[field]}", reason)
    if where.startswith("reply_to."):
        where = "reply_to"  # one header, however many addresses it holds
    return Problem(field_path(where, places), text)
