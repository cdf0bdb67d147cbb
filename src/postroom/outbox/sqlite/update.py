"""Changes that are not a worker's results: by a person, by a provider's report, by the clock."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from postroom.errors import StateConflict
from postroom.outbox.account_health import refreshed, troubled
from postroom.outbox.records import AccountHealth, StoredMessage, queue_of
from postroom.outbox.serialization import dump_progress, load_progress
from postroom.outbox.sqlite import suppressions
from postroom.outbox.sqlite.query import receipt_of
from postroom.outbox.sqlite.schema import WAITING_SQL, quoted
from postroom.outbox.sqlite.settle import keep_health
from postroom.outbox.states import SETTLED
from postroom.outbox.transitions import expired, reported, teaches, transitioned, unknown_message

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from postroom.events import Event
    from postroom.outbox.records import Suppression
    from postroom.outbox.states import Transition
    from postroom.outbox.transitions import Transitioned
    from postroom.receipts import Receipt


def transition(
    connection: sqlite3.Connection,
    id_: str,
    wanted: Transition,
    now: float,
    *,
    tenant: str | None = None,
    note: str = "",
) -> Receipt:
    """Make a transition and return the message's receipt; raises MessageNotFound or StateConflict."""
    message = _stored(connection, "id = :id AND (:tenant IS NULL OR tenant = :tenant)", {"id": id_, "tenant": tenant})
    if message is None:
        raise unknown_message(id_)
    after = transitioned(message, wanted, note, now=now, by_tenant=tenant is not None)
    return _written(connection, message, after, now)


def record_event(
    connection: sqlite3.Connection, event: Event, now: float, suppression: Suppression | None = None
) -> Receipt | None:
    """Keep what a provider reported, once, and move the message it is about.

    Returns the message's receipt; None for a report that was known already, or of a message that is not here.
    """
    message = _subject_of(connection, event)
    kept = connection.execute(
        "INSERT OR IGNORE INTO events (seq, fingerprint, received_at, event) VALUES (?, ?, ?, ?)",
        (message and message.seq, event.fingerprint, now, event.model_dump_json(exclude_none=True)),
    ).rowcount
    if not kept:
        return None
    if suppression and teaches(event, message):
        suppressions.put(connection, suppression)
    caused = reported(event, message) if message else None
    if message and caused:
        with suppress(StateConflict):  # it came late, or out of order: the message is further on already
            return _written(connection, message, transitioned(message, caused), now)
    return message.receipt if message else None


def expire(connection: sqlite3.Connection, seqs: Sequence[int], now: float) -> list[Receipt]:
    """End these messages if they still wait; returns their receipts."""
    found = (_stored(connection, f"seq = :seq AND status IN {WAITING_SQL}", {"seq": seq}) for seq in seqs)
    return [_written(connection, message, expired(message), now) for message in found if message]


def reroute(connection: sqlite3.Connection, queue: str, route: str, other: str, limit: int) -> int:
    """Move messages that nobody has tried in this round from one queue of their route to another."""
    return connection.execute(_REROUTE, (other, queue, route, limit)).rowcount


def prune(connection: sqlite3.Connection, seqs: Sequence[int], before: float) -> int:
    """Remove bodies, attachments and idempotency keys of messages settled before a time; receipts stay.

    Returns how many went. What a person has let go again since `seqs` were read keeps all that it needs.
    """
    still = [seq for seq in seqs if connection.execute(_STILL_SETTLED, (seq, before)).fetchone()]
    files = _files_of(connection, still)
    for table in ("bodies", "message_files", "idempotency_keys"):
        connection.executemany(f"DELETE FROM {table} WHERE seq = ?", [(seq,) for seq in still])
    connection.executemany(_DROP_FILE, files)
    return len(still)


def purge(connection: sqlite3.Connection, seqs: Sequence[int]) -> int:
    """Remove settled messages with all that is known of them; returns how many went."""
    files = _files_of(connection, seqs)
    removed = sum(connection.execute(_PURGE, (seq,)).rowcount for seq in seqs)
    connection.executemany(_DROP_FILE, files)
    return removed


def resume(connection: sqlite3.Connection, account: str) -> bool:
    """End the rest or pause of an account's queues; False when they had none."""
    rows = connection.execute(_HEALTHS, (f"{account}/*",)).fetchall()
    ended = [health for (text,) in rows if troubled(health := AccountHealth.model_validate_json(text))]
    for health in ended:
        keep_health(connection, refreshed(health))
    return bool(ended)


def _written(connection: sqlite3.Connection, message: StoredMessage, after: Transitioned, now: float) -> Receipt:
    connection.execute(_TRANSITION, {
        "status": after.status,
        "due_at": after.due_at,
        "receipt": after.receipt.model_dump_json(exclude_none=True),
        "progress": dump_progress(after.progress),
        "settled_at": now if after.settled else None,
        "seq": message.seq,
    })  # fmt: skip
    if after.settled:
        connection.execute("UPDATE bodies SET options = NULL WHERE seq = ? AND options IS NOT NULL", (message.seq,))
    return after.receipt


def _stored(connection: sqlite3.Connection, condition: str, values: dict[str, object]) -> StoredMessage | None:
    row = connection.execute(f"{_STORED} WHERE {condition}", values).fetchone()
    if row is None:
        return None
    seq, id_, channel, status, receipt, queue, progress, has_body, has_credentials, due_at = row
    return StoredMessage(
        seq=seq,
        id=id_,
        queue=queue,
        receipt=receipt_of(id_, channel, status, receipt, queue),
        progress=load_progress(progress),
        has_body=bool(has_body),
        has_credentials=bool(has_credentials),
        due_at=due_at,
    )


def _subject_of(connection: sqlite3.Connection, event: Event) -> StoredMessage | None:
    """Find the message a report is about, by our id or by the provider's; an account speaks of its own only."""
    queue = queue_of(event.account, event.channel) if event.account else ""
    concerned = {"channel": event.channel, "account": event.account, "queue": queue, "own": f"{queue}/own"}
    concerned["tried"] = f'"account":{json.dumps(event.account, ensure_ascii=False)}'
    for query, name in ((_BY_ID, event.message_id), (_BY_PROVIDER_ID, event.provider_message_id)):
        found = connection.execute(query, {**concerned, "name": name}).fetchone() if name else None
        if found:
            return _stored(connection, "seq = :seq", {"seq": found[0]})
    return None


def _files_of(connection: sqlite3.Connection, seqs: Sequence[int]) -> list[tuple[bytes]]:
    return [row for seq in seqs for row in connection.execute("SELECT hash FROM message_files WHERE seq = ?", (seq,))]


_STORED = (
    "SELECT seq, id, channel, status, receipt, queue, progress, body IS NOT NULL, options IS NOT NULL, "
    "due_at "
    "FROM messages LEFT JOIN bodies USING (seq)"
)
_TRANSITION = (
    "UPDATE messages SET status = :status, due_at = :due_at, receipt = :receipt, progress = :progress, "
    "settled_at = :settled_at, owner = NULL WHERE seq = :seq"
)
_CONCERNED = (
    "m.channel = :channel AND (:account IS NULL OR m.queue IN (:queue, :own) OR instr(coalesce(m.receipt, ''), :tried))"
)
_BY_ID = f"SELECT m.seq FROM messages m WHERE m.id = :name AND {_CONCERNED}"
_BY_PROVIDER_ID = (
    "SELECT m.seq FROM provider_ids p JOIN messages m USING (seq) "
    f"WHERE p.provider_id = :name AND {_CONCERNED} ORDER BY m.seq DESC LIMIT 1"
)
_REROUTE = (
    "UPDATE messages SET queue = ? WHERE seq IN (SELECT seq FROM messages INDEXED BY ready "
    f"WHERE queue = ? AND route = ? AND status IN {WAITING_SQL} "
    "AND (progress IS NULL OR progress NOT LIKE '%\"tried\"%') "
    "AND NOT EXISTS (SELECT 1 FROM json_each(receipt, '$.recipients') WHERE value ->> 'outcome' = 'unknown') LIMIT ?)"
)
_STILL_SETTLED = "SELECT 1 FROM messages WHERE seq = ? AND settled_at <= ?"
_PURGE = f"DELETE FROM messages WHERE seq = ? AND status IN {quoted(SETTLED)}"
_DROP_FILE = "DELETE FROM files WHERE hash = ? AND NOT EXISTS (SELECT 1 FROM message_files f WHERE f.hash = files.hash)"
_HEALTHS = "SELECT health FROM queues WHERE queue GLOB ? AND health IS NOT NULL"
