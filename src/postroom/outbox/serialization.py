"""How messages and their progress are written into the outbox, and read back without being checked a second time."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from pydantic_core import from_json, to_json

from postroom.addresses import Address
from postroom.attachments import Attachment
from postroom.errors import OutboxError
from postroom.frozen import FrozenDict, frozen
from postroom.messages import Email, Message, Sms
from postroom.outbox.records import NOW, Progress
from postroom.outcomes import Outcome
from postroom.receipts import Channel, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from postroom.outbox.encryption import CredentialCipher
    from postroom.outbox.records import NewMessage

_MAILBOXES = ("to", "cc", "bcc", "reply_to")
_MOMENTS = ("send_at", "expires_at")
_APART = frozenset({"options", "attachments", "id", "idempotency_key", "required"})
"""Kept beside the body: encrypted, by their hash, or in columns of their own."""

_AT_ONCE = 50
"""Messages written down before others in the loop may go on."""


@dataclass(slots=True)
class SerializedMessage:
    """A message as it is written down. All of this is worked out before a transaction begins.

    `files` are the contents of attachments with their SHA-256; `fingerprint` tells messages with one idempotency key
    apart.
    """

    new: NewMessage
    body: str
    credentials: bytes | None
    files: list[tuple[bytes, bytes]]
    size: int
    fingerprint: bytes | None


def serialize(new: NewMessage, cipher: CredentialCipher, salt: bytes) -> SerializedMessage:
    """Return a message to be accepted, its credentials encrypted; `salt` is the outbox's own, for fingerprints.

    Raises ConfigError when its credentials cannot be encrypted.
    """
    message = new.message
    assert message.id
    body = dump_message(message)
    attachments = message.attachments if isinstance(message, Email) else ()
    files = [(hashlib.sha256(a.content).digest(), a.content) for a in attachments]
    options = {name: secret.get_secret_value() for name, secret in message.options.items()} if message.options else None
    return SerializedMessage(
        new=new,
        body=body,
        credentials=cipher.encrypt(options, message.id) if options else None,
        files=files,
        size=len(body) + sum(len(content) for _, content in files),
        fingerprint=_fingerprint(new, body, files, options, salt) if message.idempotency_key else None,
    )


async def serialize_all(
    messages: Sequence[NewMessage], cipher: CredentialCipher, salt: bytes
) -> list[SerializedMessage]:
    """Do so with many, and let others in the loop go on in between."""
    serialized: list[SerializedMessage] = []
    for message in messages:
        if len(serialized) % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        serialized.append(serialize(message, cipher, salt))
    return serialized


def dump_progress(progress: Progress) -> str | None:
    """Return the parts that say anything as JSON text; None when all is as at the beginning."""
    if progress == _NOTHING:
        return None
    said = {
        "pending": progress.pending,
        "tried": progress.tried or None,
        "recipients": progress.recipients,
        "rounds": progress.rounds or None,
        "asked": progress.asked or None,
        "held_until": progress.held_until or None,
    }
    return json.dumps({name: value for name, value in said.items() if value is not None})


def load_progress(text: str | None) -> Progress:
    """Read what `dump_progress` wrote."""
    if not text:
        return Progress()
    said = json.loads(text)
    if not isinstance(said, dict):
        raise TypeError("progress is no object")
    pending, recipients = said.get("pending"), said.get("recipients")
    return Progress(
        pending=None if pending is None else tuple(pending),
        tried=said.get("tried", {}),
        recipients=None if recipients is None else tuple(recipients),
        rounds=said.get("rounds", 0),
        asked=said.get("asked", 0),
        held_until=said.get("held_until", NOW),
    )


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
    """Return the message that `dump_message` wrote; `files` gives the content of the attachment with that number.

    Raises OutboxError when the stored text is not what `dump_message` writes.
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
        fields["options"] = FrozenDict({name: SecretStr(value) for name, value in options.items()})
    kind = Email if channel is Channel.EMAIL else Sms
    return _BLANK[kind].stamped(**fields)


def recipients_of(channel: Channel, body: str | bytes) -> tuple[str, ...]:
    """Return all that a stored message is for; none when its text cannot be read back."""
    if isinstance(body, bytes):
        return ()
    try:
        return load_message(channel, body, lambda _: b"", {}, "").recipients
    except (OutboxError, ValueError, TypeError, KeyError):
        return ()


def may_be_out(receipt: str | bytes | None) -> bool:
    """Whether an earlier hand-over may have been taken: a stored receipt says so, or cannot be read any more."""
    if not receipt:
        return False
    try:
        attempts = Receipt.model_validate_json(receipt).attempts
    except ValueError:
        return True
    return any(attempt.outcome is Outcome.UNKNOWN for attempt in attempts)


def _fingerprint(
    new: NewMessage, body: str, files: list[tuple[bytes, bytes]], options: dict[str, str] | None, salt: bytes
) -> bytes:
    """What tells one message from another under the same key; the id and the Message-ID we gave it are left out."""
    fields = json.loads(body)
    if not _named_by_caller(new):
        fields.pop("message_id", None)
    plain = [new.message.channel_name, new.message.required, fields, options, [digest.hex() for digest, _ in files]]
    return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), key=salt, digest_size=32).digest()


def _named_by_caller(new: NewMessage) -> bool:
    message = new.message
    given = message.message_id if isinstance(message, Email) else None
    return given is not None and message.id is not None and not given.startswith(f"<{message.id}@")


def _described(attachment: Attachment) -> dict[str, Any]:
    return {
        "filename": attachment.filename,
        "content_type": attachment.content_type,
        "inline": attachment.inline,
        "content_id": attachment.content_id,
    }


def _restored(channel: Channel, fields: dict[str, Any], files: Callable[[int], bytes]) -> dict[str, Any]:
    if not fields.keys() <= _FIELDS[channel]:
        raise KeyError("an unknown field")
    restored_by = _RESTORED[channel]
    for name in fields.keys() & restored_by.keys():
        fields[name] = restored_by[name](fields[name])
    if "attachments" in fields:
        described = enumerate(fields["attachments"])
        fields["attachments"] = tuple(_attachment(files(number), **said) for number, said in described)
    return fields


def _addresses(pairs: list[list[str]]) -> tuple[Address, ...]:
    return tuple([_address(pair) for pair in pairs])


def _address(pair: list[str]) -> Address:
    """An address that was checked before it was stored."""
    email, name = pair
    return _BLANK_ADDRESS.stamped(email=email, name=name)


def _attachment(content: bytes, **described: Any) -> Attachment:
    return Attachment.model_construct(content=content, **described)


_NOTHING = Progress()
_RESTORED_OF_ALL: dict[str, Callable[[Any], Any]] = {
    "tags": tuple,
    "metadata": frozen,
    "provider_options": frozen,
    "send_at": datetime.fromisoformat,
    "expires_at": datetime.fromisoformat,
}
_RESTORED: dict[Channel, dict[str, Callable[[Any], Any]]] = {
    Channel.EMAIL: {
        **_RESTORED_OF_ALL,
        **dict.fromkeys(_MAILBOXES, _addresses),
        "from_": _address,
        "headers": frozen,
        "merge_data": frozen,
    },
    Channel.SMS: {**_RESTORED_OF_ALL, "to": tuple, "media": tuple},
}
"""What JSON has made of a field, made into what the message has."""
_BLANK: dict[type[Message], Message] = {Email: Email.model_construct(), Sms: Sms.model_construct(to=())}
_BLANK_ADDRESS = Address.model_construct(email="")
_FIELDS = {Channel.EMAIL: frozenset(Email.model_fields), Channel.SMS: frozenset(Sms.model_fields)}
