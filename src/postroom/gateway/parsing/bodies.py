"""Parsing whole bodies into messages: what runs in the event loop's process, or for large ones in another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.gateway.http.errors import ApiError, Problem, invalid_message
from postroom.gateway.http.form_body import parse_form
from postroom.gateway.http.json_body import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from postroom.config.gateway import GatewaySettings
    from postroom.messages import Email, Sms

    Read = Callable[[dict[str, Any], GatewaySettings], Email | Sms]

MOST_ADDRESSES = 100_000
"""Recipients in all messages of a batch: each is checked by itself, which takes up to 50 µs."""


def parse_fields(body: bytes, *, as_form: bool) -> dict[str, Any]:
    """Return the object a body holds. Raises ApiError (400)."""
    # curl calls a body url-encoded unless told otherwise, and no url-encoded body begins like this.
    return parse_form(body) if as_form and body[:1] != b"{" else parse_json(body)


def parse_single(body: bytes, as_form: bool, read: Read, settings: GatewaySettings) -> Email | Sms:
    """Return the message a body holds. Raises ApiError."""
    return parse_item(parse_fields(body, as_form=as_form), read, settings)


def parse_batch(
    body: bytes, as_form: bool, name: str, read: Read, settings: GatewaySettings
) -> list[Email | Sms | ApiError]:  # fmt: skip
    """Return the messages a body holds, or what is wrong with each. Raises ApiError for what is no batch."""
    items = batch_items(parse_fields(body, as_form=as_form), name, settings)
    return [parse_or_error(item, read, settings) for item in items]


def batch_items(fields: Mapping[str, Any], name: str, settings: GatewaySettings) -> list[Any]:
    """Return the items of a batch, none of them looked at but for their number. Raises ApiError (400, 413)."""
    items = fields.get(name)
    if not isinstance(items, list) or not items:
        raise invalid_message((Problem(name, "must be a list with at least one message"),))
    if len(items) > settings.max_batch:
        most = f"at most {settings.max_batch:,} are taken. Send several batches"
        raise ApiError(413, "too_large", f"{name} has {len(items):,} messages; {most}.")
    if sum(addresses_of(item) for item in items) > MOST_ADDRESSES:
        raise ApiError(413, "too_large", f"{name} has more than {MOST_ADDRESSES:,} recipients. Send several batches.")
    return items


def parse_item(item: object, read: Read, settings: GatewaySettings) -> Email | Sms:
    """Return the message in one object of a body. Raises ApiError, also for what no parser gets to the end of."""
    if not isinstance(item, dict):
        raise invalid_message((Problem("", "must be an object"),))
    try:
        return read(item, settings)
    except RecursionError:
        raise invalid_message((Problem("", "holds something that is nested too deep to be read"),)) from None


def parse_or_error(item: object, read: Read, settings: GatewaySettings) -> Email | Sms | ApiError:
    """Return the message in one object of a batch, or what is wrong with it."""
    try:
        return parse_item(item, read, settings)
    except ApiError as error:
        return error


def addresses_of(item: object) -> int:
    """Return how many recipients an item names, wherever the API lets them stand."""
    if not isinstance(item, dict):
        return 0
    holders = [item, item.get("options"), item.get("data")]
    given = [holder.get(name) for holder in holders if isinstance(holder, dict) for name in ("to", "cc", "bcc")]
    return sum(len(value) for value in given if isinstance(value, list))
