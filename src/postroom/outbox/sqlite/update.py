"""Changes that are not a worker's results: by a person, by a provider's report, by the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.outbox.account_health import refreshed, troubled
from postroom.outbox.records import NOW, account_of
from postroom.outbox.reports import after_reports, decided
from postroom.outbox.sqlite import reports, suppressions
from postroom.outbox.sqlite.query import health
from postroom.outbox.sqlite.schema import WAITING_SQL, quoted
from postroom.outbox.sqlite.settle import keep_health
from postroom.outbox.sqlite.stored import of_seq, stored, write
from postroom.outbox.states import SETTLED
from postroom.outbox.transitions import REPLANNED, expired, replanned, teaches, unknown_message

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from postroom.events import Event
    from postroom.outbox.records import Suppression
    from postroom.outbox.states import Transition
    from postroom.receipts import Receipt


def transition(
    connection: sqlite3.Connection,
    id_: str,
    wanted: Transition,
    now: float,
    *,
    tenant: str | None = None,
    note: str = "",
    held_until: float = NOW,
) -> Receipt:
    """Make a transition and return the message's receipt; raises MessageNotFound or StateConflict."""
    message = stored(connection, "id = :id AND (:tenant IS NULL OR tenant = :tenant)", {"id": id_, "tenant": tenant})
    if message is None:
        raise unknown_message(id_)
    events = reports.of_messages(connection, [message.seq]).get(message.seq, ())
    after = decided(message, wanted, note, events, now=now, by_tenant=tenant is not None, held_until=held_until)
    return write(connection, message, after, now)


def record_event(
    connection: sqlite3.Connection, event: Event, now: float, suppression: Suppression | None = None
) -> Receipt | None:
    """Keep what a provider reported, once, and move the message it is about.

    Returns the message's receipt; None for a report that was known already, or of a message that is not here.
    """
    seq = reports.subject_of(connection, event)
    if not reports.keep(connection, event, seq, now):
        return None
    message = None if seq is None else of_seq(connection, seq)
    if suppression and teaches(event, message):
        suppressions.put(connection, suppression)
    if message is None:
        return None
    after = after_reports(message, reports.of_messages(connection, [message.seq]).get(message.seq, ()))
    return message.receipt if after is None else write(connection, message, after, now)


def expire(connection: sqlite3.Connection, seqs: Sequence[int], now: float) -> list[Receipt]:
    """End these messages if they still wait; returns their receipts."""
    found = (stored(connection, f"seq = :seq AND status IN {WAITING_SQL}", {"seq": seq}) for seq in seqs)
    return [write(connection, message, expired(message), now) for message in found if message]


def replan(
    connection: sqlite3.Connection, ahead: Sequence[tuple[int, float, float]], now: float, longest: float
) -> int:
    """Bring due times back that a clock has planned which was set back since; returns how many still were so."""
    values = [(replanned(due, begun, now, longest), now, seq, due, begun) for seq, due, begun in ahead]
    return connection.executemany(_REPLAN, values).rowcount


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
    connection.executemany(DROP_FILE, files)
    return len(still)


def purge(connection: sqlite3.Connection, seqs: Sequence[int]) -> int:
    """Remove settled messages with all that is known of them; returns how many went."""
    files = _files_of(connection, seqs)
    removed = sum(connection.execute(_PURGE, (seq,)).rowcount for seq in seqs)
    connection.executemany(DROP_FILE, files)
    return removed


def resume(connection: sqlite3.Connection, account: str) -> bool:
    """End the rest or pause of an account's queues; False when they had none."""
    ended = [each for each in health(connection).values() if account_of(each.queue) == account and troubled(each)]
    for each in ended:
        keep_health(connection, refreshed(each))
    return bool(ended)


def _files_of(connection: sqlite3.Connection, seqs: Sequence[int]) -> list[tuple[bytes]]:
    return [row for seq in seqs for row in connection.execute("SELECT hash FROM message_files WHERE seq = ?", (seq,))]


_REROUTE = (
    "UPDATE messages SET queue = ? WHERE seq IN (SELECT seq FROM messages INDEXED BY ready "
    f"WHERE queue = ? AND route = ? AND status IN {WAITING_SQL} "
    "AND (progress IS NULL OR progress NOT LIKE '%\"tried\"%') "
    "AND NOT EXISTS (SELECT 1 FROM json_each(receipt, '$.recipients') WHERE value ->> 'outcome' = 'unknown') LIMIT ?)"
)
_REPLAN = (
    "UPDATE messages SET due_at = ?, begun_at = ? "
    f"WHERE seq = ? AND due_at = ? AND begun_at = ? AND status IN {quoted(REPLANNED)}"
)
_STILL_SETTLED = "SELECT 1 FROM messages WHERE seq = ? AND settled_at <= ?"
_PURGE = f"DELETE FROM messages WHERE seq = ? AND status IN {quoted(SETTLED)}"
DROP_FILE = "DELETE FROM files WHERE hash = ? AND NOT EXISTS (SELECT 1 FROM message_files f WHERE f.hash = files.hash)"
