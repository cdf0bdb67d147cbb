"""How messages and their progress are written into the outbox, and read back without being checked a second time."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from pydantic_core import from_json, to_json

from postroom.addresses import Address
from postroom.attachments import Attachment
from postroom.errors import OutboxError
from postroom.frozen import FrozenDict, frozen
from postroom.large_work import one_at_a_time
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

LARGE = 262_144
"""Size from which a message is written down and read back in a thread, so that nobody in the loop waits for it.

A text of more characters is kept as attachments are: what writes and reads JSON takes all of it in one call, during
which no other thread runs either, and a search would look through it.
"""

PIECE = 262_144
"""Bytes of an attachment, or characters of a large text, that are kept and read back as one.

No call takes more, so that other threads run in between.
"""

_TEXTS = ("text", "html", "calendar", "amp")
_CONTENTS = "contents"
"""Where a body says in how many pieces its attachments and large texts are kept, if any of them is large.

A version that does not know it sets the message aside for a person, since it knows no such field.
"""

_MOST_PIECES = 1000
"""Of one content; a body that says more is damaged."""

_AT_ONCE = 50
"""Messages written down before others in the loop may go on."""


@dataclass(slots=True)
class SerializedMessage:
    """A message as it is written down. All of this is worked out before a transaction begins.

    `files` are the contents of attachments and large texts, in pieces with their SHA-256; `fingerprint` tells messages
    with one idempotency key apart.
    """

    new: NewMessage
    body: str
    credentials: bytes | None
    files: list[tuple[bytes, bytes]]
    size: int
    fingerprint: bytes | None


async def serialize_all(
    messages: Sequence[NewMessage], cipher: CredentialCipher, salt: bytes
) -> list[SerializedMessage]:
    """Return messages to be accepted, as `serialize` does, without keeping others in the loop waiting."""
    serialized: list[SerializedMessage] = []
    for new in messages:
        if len(serialized) % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        if _is_large(new.message):
            serialized.append(await asyncio.to_thread(one_at_a_time, serialize, new, cipher, salt))
        else:
            serialized.append(serialize(new, cipher, salt))
    return serialized


def serialize(new: NewMessage, cipher: CredentialCipher, salt: bytes) -> SerializedMessage:
    """Return a message to be accepted, its credentials encrypted; `salt` is the outbox's own, for fingerprints.

    Raises ConfigError when its credentials cannot be encrypted.
    """
    message = new.message
    assert message.id
    body = dump_message(message)
    files = [(hashlib.sha256(content).digest(), content) for content in contents_of(message)]
    options = {name: secret.get_secret_value() for name, secret in message.options.items()} if message.options else None
    return SerializedMessage(
        new=new,
        body=body,
        credentials=cipher.encrypt(options, message.id) if options else None,
        files=files,
        size=len(body) + (sum(len(content) for _, content in files) if files else 0),
        fingerprint=_fingerprint(new, body, options, salt) if message.idempotency_key else None,
    )


def contents_of(message: Message) -> list[bytes]:
    """Return what is kept beside the body, by its number there: pieces of attachments first, and then of texts."""
    if not isinstance(message, Email):
        return []
    large = _large_texts(message)
    if not message.attachments and not large:
        return []
    contents = [attachment.content for attachment in message.attachments]
    pieces = [content[at : at + PIECE] for content in contents for at in _cuts(content)]
    texts = [message.__dict__[name] for name in large]
    return pieces + [text[at : at + PIECE].encode() for text in texts for at in _cuts(text)]


def has_contents(body: str) -> bool:
    """Whether anything may be kept beside a stored body."""
    return '"attachments":' in body or f'"{_CONTENTS}":' in body


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
    """Return the message as JSON text: the fields that were given, without secrets, file contents and large texts."""
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
        texts = _large_texts(message)
        if texts or (message.attachments and any(len(each.content) > PIECE for each in message.attachments)):
            counts = {name: len(_cuts(fields.pop(name))) for name in texts}
            fields[_CONTENTS] = {"attachments": [len(_cuts(each.content)) for each in message.attachments], **counts}
    for name in _MOMENTS:
        if name in fields:
            fields[name] = fields[name].isoformat()
    return to_json(fields).decode()


def load_message(
    channel: Channel, body: str, files: Callable[[int], bytes], options: Mapping[str, str], message_id: str
) -> Message:
    """Return the message that `dump_message` wrote; `files` gives the content with that number of `contents_of`.

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


def left_out(_: int) -> bytes:
    """Stand for contents where nobody asks for them."""
    return b""


def recipients_of(channel: Channel, body: str | bytes) -> tuple[str, ...]:
    """Return all that a stored message is for; none when its text cannot be read back."""
    if isinstance(body, bytes):
        return ()
    try:
        return load_message(channel, body, left_out, {}, "").recipients
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


def _fingerprint(new: NewMessage, body: str, options: dict[str, str] | None, salt: bytes) -> bytes:
    """What tells one message from another under the same key; the id and the Message-ID we gave it are left out."""
    fields = json.loads(body)
    files: list[str] = []
    if isinstance(message := new.message, Email):
        files = [hashlib.sha256(attachment.content).hexdigest() for attachment in message.attachments]
        if fields.pop(_CONTENTS, None):
            fields |= {name: {"sha256": _digest(message.__dict__[name])} for name in _large_texts(message)}
    if not _named_by_caller(new):
        fields.pop("message_id", None)
    plain = [new.message.channel_name, new.message.required, fields, options, files]
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
    contents = _contents(fields, files) if "attachments" in fields or _CONTENTS in fields else {}
    if not fields.keys() <= _FIELDS[channel]:
        raise KeyError("an unknown field")
    restored_by = _RESTORED[channel]
    for name in fields.keys() & restored_by.keys():
        fields[name] = restored_by[name](fields[name])
    return fields | contents if contents else fields


def _contents(fields: dict[str, Any], files: Callable[[int], bytes]) -> dict[str, Any]:
    """Return attachments and large texts, and take what stands for them out of the fields."""
    described: list[dict[str, Any]] = fields.pop("attachments", [])
    pieces: dict[str, Any] = fields.pop(_CONTENTS, {"attachments": [1] * len(described)})
    numbers = count()
    found: dict[str, Any] = {}
    if max([*pieces["attachments"], *(pieces.get(name, 0) for name in _TEXTS)], default=0) > _MOST_PIECES:
        raise ValueError("too many pieces")
    for said, how_many in zip(described, pieces.pop("attachments"), strict=True):
        content = b"".join([files(next(numbers)) for _ in range(how_many)])
        found["attachments"] = (*found.get("attachments", ()), Attachment.model_construct(content=content, **said))
    for name in _TEXTS:
        if name in pieces:
            found[name] = "".join([files(next(numbers)).decode() for _ in range(pieces[name])])
    return found


def _cuts(content: bytes | str) -> range:
    """Where the pieces of a content begin; one that is empty has one."""
    return range(0, max(len(content), 1), PIECE)


def _digest(text: str) -> str:
    digest = hashlib.sha256()
    for at in _cuts(text):
        digest.update(text[at : at + PIECE].encode())
    return digest.hexdigest()


def _is_large(message: Message) -> bool:
    return isinstance(message, Email) and message.size > LARGE


def _large_texts(email: Email) -> list[str]:
    values = email.__dict__
    return [name for name in _TEXTS if (text := values[name]) and len(text) > LARGE]


def _addresses(pairs: list[list[str]]) -> tuple[Address, ...]:
    return tuple([_address(pair) for pair in pairs])


def _address(pair: list[str]) -> Address:
    """An address that was checked before it was stored."""
    email, name = pair
    return _BLANK_ADDRESS.stamped(email=email, name=name)


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
