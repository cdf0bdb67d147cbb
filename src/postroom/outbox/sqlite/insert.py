"""Accepting messages: rows, bodies, attachments once by their content, idempotency keys."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from postroom.errors import IdempotencyConflict, OutboxError, PostroomError
from postroom.messages import Email
from postroom.outbox.records import NEVER, EnqueueResult, NewMessage, Progress, account_of
from postroom.outbox.serialization import dump_message, opened_options
from postroom.outbox.sqlite.query import receipt_of
from postroom.outbox.sqlite.settle import progress_text
from postroom.outbox.states import SETTLED
from postroom.receipts import Receipt, Status

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from postroom.outbox.encryption import CredentialCipher

PRIORITIES = {"high": 0, "normal": 1, "low": 2}


@dataclass(slots=True)
class Prepared:
    """Everything about a message that can be worked out before the write begins."""

    entry: NewMessage
    body: str
    sealed: bytes | None
    files: list[tuple[bytes, bytes]]
    size: int
    fingerprint: bytes | None


def prepare_entry(entry: NewMessage, seal: CredentialCipher, salt: bytes) -> Prepared:
    """Encode and seal a message. Raises ConfigError when its credentials cannot be encrypted."""
    message = entry.message
    assert message.id
    body = dump_message(message)
    attachments = message.attachments if isinstance(message, Email) else ()
    files = [(hashlib.sha256(a.content).digest(), a.content) for a in attachments]
    options = opened_options(message) if message.options else None
    return Prepared(
        entry=entry,
        body=body,
        sealed=seal.close(options, message.id) if options else None,
        files=files,
        size=len(body) + sum(len(content) for _, content in files),
        fingerprint=_fingerprint(entry, body, files, options, salt) if message.idempotency_key else None,
    )


def add(
    connection: sqlite3.Connection, prepared: Sequence[Prepared], now: float
) -> list[EnqueueResult | PostroomError]:
    """Store each message, or answer with what its idempotency key stands for already."""
    return [_repeated(connection, one) or _stored(connection, one, now) for one in prepared]


def _repeated(connection: sqlite3.Connection, one: Prepared) -> EnqueueResult | PostroomError | None:
    if one.fingerprint is None:
        return None
    found = connection.execute(
        "SELECT k.fingerprint, k.accepted_as, m.id, m.channel, m.status, m.receipt, m.queue "
        "FROM idempotency_keys k JOIN messages m USING (seq) WHERE k.tenant = ? AND k.key = ?",
        (one.entry.tenant, one.entry.message.idempotency_key),
    ).fetchone()
    if found is None:
        return None
    if found[0] != one.fingerprint:
        return IdempotencyConflict(
            f"the idempotency key {one.entry.message.idempotency_key!r} was used for another message ({found[2]}); "
            "nothing was accepted, use a new key for a new message"
        )
    return EnqueueResult(receipt_of(*found[2:]), Status(found[1]), replayed=True)


def _stored(connection: sqlite3.Connection, one: Prepared, now: float) -> EnqueueResult | PostroomError:
    entry, message = one.entry, one.entry.message
    assert message.id
    settled = now if entry.status in SETTLED else None
    inserted = connection.execute(_INSERT, (
        message.id, entry.tenant, message.channel_name, entry.status, entry.queue, entry.route,
        PRIORITIES[message.priority], NEVER if settled else entry.due_at, entry.expires_at, entry.single_round,
        one.size, now, settled, progress_text(Progress(recipients=entry.recipients)) if entry.recipients else None,
    ))  # fmt: skip
    if not inserted.rowcount:
        return OutboxError(f"there is a message {message.id} already; leave the id out, and it gets one of its own")
    seq = inserted.lastrowid
    connection.execute("INSERT INTO bodies VALUES (?, ?, ?)", (seq, one.body, one.sealed))
    for number, (digest, content) in enumerate(one.files):
        connection.execute("INSERT OR IGNORE INTO files VALUES (?, ?)", (digest, content))
        connection.execute("INSERT INTO message_files VALUES (?, ?, ?)", (seq, number, digest))
    if one.fingerprint is not None:
        key = (entry.tenant, message.idempotency_key, seq, one.fingerprint, entry.status)
        connection.execute("INSERT INTO idempotency_keys VALUES (?, ?, ?, ?, ?)", key)
    return EnqueueResult(
        Receipt.model_construct(
            id=message.id,
            channel=message.channel_name,
            status=entry.status,
            account=account_of(entry.queue),
            message_id=message.message_id if isinstance(message, Email) else None,
        ),
        entry.status,
    )


def _fingerprint(
    entry: NewMessage, body: str, files: list[tuple[bytes, bytes]], options: dict[str, str] | None, salt: bytes
) -> bytes:
    """What tells one message from another under the same key; the id and the Message-ID we gave it are left out."""
    fields = json.loads(body)
    if not _named_by_caller(entry):
        fields.pop("message_id", None)
    plain = [entry.message.channel_name, entry.message.required, fields, options, [digest.hex() for digest, _ in files]]
    return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), key=salt, digest_size=32).digest()


def _named_by_caller(entry: NewMessage) -> bool:
    message = entry.message
    given = message.message_id if isinstance(message, Email) else None
    return given is not None and message.id is not None and not given.startswith(f"<{message.id}@")


_INSERT = (
    "INSERT OR IGNORE INTO messages (id, tenant, channel, status, queue, route, priority, due_at, expires_at, "
    "single_round, size, created_at, settled_at, progress) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def salt(connection: sqlite3.Connection) -> bytes:
    """The random key of this outbox's fingerprints: they must not let anybody guess what was sent."""
    known = connection.execute(_SALT).fetchone()
    if known is None:
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('salt', ?)", (os.urandom(32),))
        known = connection.execute(_SALT).fetchone()
    found: bytes = known[0]
    return found


_SALT = "SELECT value FROM meta WHERE name = 'salt'"
