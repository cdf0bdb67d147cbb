"""How a message is written into the outbox, and read back without being checked a second time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from pydantic_core import from_json, to_json

from postroom.addresses import Address
from postroom.attachments import Attachment
from postroom.errors import OutboxError
from postroom.messages import Email, Message, Sms
from postroom.receipts import Channel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAILBOXES = ("to", "cc", "bcc", "reply_to")
_MOMENTS = ("send_at", "expires_at")
_APART = frozenset({"options", "attachments", "id", "idempotency_key", "required"})
"""Kept beside the body: sealed, by their hash, or in columns of their own."""


def dump_message(message: Message) -> str:
    """Return the message as JSON text: the fields that were given, without secrets and file contents."""
    values, given = message.__dict__, message.__pydantic_fields_set__ - _APART
    fields = {name: value for name in given if (value := values[name]) is not None}
    if isinstance(message, Email):
        for name in _MAILBOXES:
            if name in fields:
                fields[name] = [[address.email, address.name] for address in fields[name]]
        if "from_" in fields:
            fields["from_"] = [fields["from_"].email, fields["from_"].name]
        if message.attachments:
            fields["attachments"] = [_described(attachment) for attachment in message.attachments]
    for name in _MOMENTS:
        if name in fields:
            fields[name] = fields[name].isoformat()
    return to_json(fields).decode()


def load_message(
    channel: Channel, body: str, files: Callable[[int], bytes], options: Mapping[str, str], message_id: str
) -> Message:
    """Return the message that `packed` wrote; `files` gives the content of the attachment with that number.

    Raises OutboxError when the stored text is not what `packed` writes.
    """
    try:
        fields = _restored(channel, from_json(body), files)
    except Exception as error:
        raise OutboxError(
            f"message {message_id} cannot be read back from the outbox ({type(error).__name__}); its row was changed "
            "or damaged, so it was set aside"
        ) from error
    fields["id"] = message_id
    if options:
        fields["options"] = {name: SecretStr(value) for name, value in options.items()}
    kind = Email if channel is Channel.EMAIL else Sms
    return _BLANK[kind].stamped(**fields)


def opened_options(message: Message) -> dict[str, str]:
    """The message's credentials in clear, to be sealed."""
    return {name: secret.get_secret_value() for name, secret in message.options.items()}


def _described(attachment: Attachment) -> dict[str, Any]:
    return {
        "filename": attachment.filename,
        "content_type": attachment.content_type,
        "inline": attachment.inline,
        "content_id": attachment.content_id,
    }


def _restored(channel: Channel, fields: dict[str, Any], files: Callable[[int], bytes]) -> dict[str, Any]:
    restored = {name: _RESTORED[name](value) if name in _RESTORED else value for name, value in fields.items()}
    if channel is Channel.EMAIL:
        for name in _MAILBOXES:
            if name in fields:
                restored[name] = tuple(_address(*pair) for pair in fields[name])
        if "from_" in fields:
            restored["from_"] = _address(*fields["from_"])
        if "attachments" in fields:
            described = enumerate(fields["attachments"])
            restored["attachments"] = tuple(_attachment(files(number), **said) for number, said in described)
    if not restored.keys() <= _FIELDS[channel]:
        raise KeyError("an unknown field")
    return restored


def _address(email: str, name: str) -> Address:
    """An address that was checked before it was stored; pydantic's own way in takes 20 times as long."""
    address = Address.__new__(Address)
    object.__setattr__(address, "__dict__", {"email": email, "name": name})
    object.__setattr__(address, "__pydantic_fields_set__", _BOTH)
    object.__setattr__(address, "__pydantic_extra__", None)
    object.__setattr__(address, "__pydantic_private__", None)
    return address


def _attachment(content: bytes, **described: Any) -> Attachment:
    return Attachment.model_construct(content=content, **described)


_BOTH = {"email", "name"}
_RESTORED: dict[str, Callable[[Any], Any]] = {
    "to": tuple,
    "tags": tuple,
    "media": tuple,
    "send_at": datetime.fromisoformat,
    "expires_at": datetime.fromisoformat,
}
_BLANK: dict[type[Message], Message] = {Email: Email.model_construct(), Sms: Sms.model_construct(to=())}
for _blank in _BLANK.values():
    object.__setattr__(_blank, "__pydantic_fields_set__", set())
_FIELDS = {Channel.EMAIL: frozenset(Email.model_fields), Channel.SMS: frozenset(Sms.model_fields)}
