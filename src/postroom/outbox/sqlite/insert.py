"""Accepting messages: rows, bodies, attachments once by their content, idempotency keys."""

from __future__ import annotations

import logging
import os
from itertools import chain
from typing import TYPE_CHECKING, Any

from postroom.outbox.records import EnqueueResult, Progress
from postroom.outbox.serialization import dump_progress
from postroom.outbox.sqlite import damage
from postroom.outbox.sqlite.query import receipt_of
from postroom.outbox.statements import Statement
from postroom.outbox.transitions import accepted, id_taken, key_conflict
from postroom.outbox.views import PRIORITIES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Sequence

    from postroom.errors import PostroomError
    from postroom.outbox.records import NewMessage
    from postroom.outbox.serialization import SerializedMessage
    from postroom.outbox.statements import Steps


_log = logging.getLogger("postroom.outbox")


def insert(
    messages: Sequence[SerializedMessage], now: float, *, kept: Collection[bytes] = ()
) -> Steps[list[EnqueueResult | PostroomError]]:
    """Store each message, or answer with what its idempotency key stands for already.

    On a caller's connection too: tables are named with their database, where temporary ones may have the same names,
    and texts are read as bytes, which no setting of a connection changes. `kept` are hashes of contents that are there.
    """
    answers: list[EnqueueResult | PostroomError] = []
    for one in messages:
        known = None if one.fingerprint is None else (yield from _repeated(one))
        answers.append(known or (yield from _stored(one, now, kept)))
    return answers


def _repeated(one: SerializedMessage) -> Steps[EnqueueResult | PostroomError | None]:
    rows = yield Statement(_KNOWN_BY_KEY, (one.new.tenant, one.new.message.idempotency_key))
    if not rows:
        return None
    fingerprint, *texts = rows[0]
    said: list[Any] = [text if text is None else damage.decoded(text) for text in texts]
    accepted_as, id_, *receipt = said
    if fingerprint != one.fingerprint:
        return key_conflict(one.new, id_)
    return EnqueueResult(receipt_of(id_, *receipt), damage.status(accepted_as), replayed=True)


def _stored(one: SerializedMessage, now: float, kept: Collection[bytes]) -> Steps[EnqueueResult | PostroomError]:
    new, message = one.new, one.new.message
    assert message.id
    inserted = yield Statement(_INSERT, (
        message.id, new.tenant, message.channel_name, new.status, new.queue, new.route,
        PRIORITIES.index(message.priority), new.due_at, new.expires_at, new.single_round, one.size, now,
        _progress(new),
    ))  # fmt: skip
    if not inserted:
        return id_taken(message.id)
    [[seq]] = inserted
    yield Statement("INSERT INTO main.bodies VALUES (?, ?, ?)", (seq, one.body, one.credentials))
    for digest, content in one.files:
        if digest not in kept:
            yield Statement(KEEP_FILE, (digest, content))
    for at in range(0, len(one.files), _ROWS_TOGETHER):
        rows = [(seq, at + n, digest) for n, (digest, _) in enumerate(one.files[at : at + _ROWS_TOGETHER])]
        sql = f"INSERT INTO main.message_files VALUES {', '.join(['(?, ?, ?)'] * len(rows))}"
        yield Statement(sql, tuple(chain.from_iterable(rows)))
    if one.fingerprint is not None:
        key = (new.tenant, message.idempotency_key, seq, one.fingerprint, new.status)
        yield Statement("INSERT INTO main.idempotency_keys VALUES (?, ?, ?, ?, ?)", key)
    return accepted(new)


def _progress(new: NewMessage) -> str | None:
    if new.recipients is None and not new.held_until:
        return None
    return dump_progress(Progress(recipients=new.recipients, held_until=new.held_until))


_ROWS_TOGETHER = 1000
"""Pieces of contents that one statement enters."""

KEEP_FILE = (
    "INSERT INTO main.files VALUES (?, ?) ON CONFLICT (hash) DO UPDATE SET content = excluded.content "
    "WHERE typeof(content) != 'blob' OR length(content) != length(excluded.content)"
)
"""A content that is there already, and visibly damaged, is mended; to compare all of it would take too long."""
_KNOWN_BY_KEY = (
    "SELECT CAST(k.fingerprint AS BLOB), CAST(k.accepted_as AS BLOB), CAST(m.id AS BLOB), CAST(m.channel AS BLOB), "
    "CAST(m.status AS BLOB), CAST(m.receipt AS BLOB), CAST(m.queue AS BLOB) "
    "FROM main.idempotency_keys k JOIN main.messages m USING (seq) WHERE k.tenant = ? AND k.key = ?"
)
_INSERT = (
    "INSERT OR IGNORE INTO main.messages (id, tenant, channel, status, queue, route, priority, due_at, expires_at, "
    "single_round, size, created_at, progress) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "RETURNING CAST(seq AS INTEGER)"
)


def salt(connection: sqlite3.Connection) -> bytes:
    """The random key of this outbox's fingerprints: they must not let anybody guess what was sent.

    One that is damaged is replaced: messages repeated under their idempotency keys are refused then, never sent again.
    """
    known = connection.execute(_SALT).fetchone()
    if known is None:
        if connection.execute("SELECT count(*) FROM meta WHERE name = 'salt'").fetchone()[0]:
            _log.error(
                "the outbox's key for fingerprints is damaged, and made anew; repeats of older messages conflict"
            )
        connection.execute(_NEW_SALT, (os.urandom(_SALT_BYTES),))
        known = connection.execute(_SALT).fetchone()
    found: bytes = known[0]
    return found


_SALT_BYTES = 32
_INTACT = f"typeof(value) = 'blob' AND length(value) = {_SALT_BYTES}"
_SALT = f"SELECT value FROM meta WHERE name = 'salt' AND {_INTACT}"
_NEW_SALT = (
    f"INSERT INTO meta VALUES ('salt', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE NOT ({_INTACT})"
)
