"""Moves that are not a worker's: by a person, by a provider's report, by the clock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from postroom.errors import MessageNotFound, Outcome, StateConflict
from postroom.events import EventType
from postroom.outbox.records import NEVER, NOW, AccountHealth, Progress, queue_of
from postroom.outbox.sqlite import suppressions
from postroom.outbox.sqlite.query import receipt_of
from postroom.outbox.sqlite.schema import WAITING_SQL
from postroom.outbox.sqlite.settle import progress_of, progress_text
from postroom.outbox.states import SETTLED, Transition, apply
from postroom.receipts import Receipt, Status

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from postroom.events import Event

_SENDS_AGAIN = frozenset({Transition.REQUEUE, Transition.LEARN_NOT_TAKEN})


def change(
    connection: sqlite3.Connection, id_: str, move: Transition, now: float, *, tenant: str | None = None, note: str = ""
) -> Receipt:
    """Make `move` with one message and return its receipt.

    Raises MessageNotFound, or StateConflict when it is in a state that `move` does not start from.
    """
    row = connection.execute(_FOUND, {"id": id_, "tenant": tenant}).fetchone()
    if row is None:
        raise unknown(id_)
    seq, channel, status, receipt_text, queue, progress = row
    to = apply(Status(status), move)
    receipt = receipt_of(id_, channel, status, receipt_text, queue)
    if move in _SENDS_AGAIN:
        _refuse_without_body(connection, seq, id_, queue)
    receipt = _after(receipt, move, to, note)
    settled = to in SETTLED
    connection.execute(_CHANGE, {
        "status": to,
        "due_at": NEVER if settled or move is Transition.HOLD else NOW,
        "receipt": receipt.model_dump_json(exclude_none=True) if receipt_text or note or receipt.recipients else None,
        "progress": progress_text(_progress_after(progress_of(progress), receipt, move)),
        "settled_at": now if settled else None,
        "seq": seq,
    })  # fmt: skip
    if settled:
        connection.execute("UPDATE bodies SET options = NULL WHERE seq = ? AND options IS NOT NULL", (seq,))
    return receipt


def record(
    connection: sqlite3.Connection, event: Event, now: float, suppression: suppressions.Row | None = None
) -> Receipt | None:
    """Keep what a provider reported, single_round, and move the message it is about.

    Returns the message's receipt; None for a report that was known already, or of a message that is not here.
    """
    seq, id_ = _subject_of(connection, event)
    kept = connection.execute(
        "INSERT OR IGNORE INTO events (seq, fingerprint, received_at, event) VALUES (?, ?, ?, ?)",
        (seq, event.fingerprint, now, event.model_dump_json(exclude_none=True)),
    ).rowcount
    # Anybody can write a bounce of something that was never sent.
    if kept and suppression and (id_ or event.type is not EventType.BOUNCED):
        suppressions.put(connection, suppression)
    if not kept or id_ is None:
        return None
    move = _MOVES.get(event.type)
    if move is not None:
        try:
            return change(connection, id_, move, now)
        except StateConflict:
            pass  # it came late, or out of order: the message is further on already
    row = connection.execute(_FOUND, {"id": id_, "tenant": None}).fetchone()
    return receipt_of(id_, row[1], row[2], row[3], row[4])


def expire(connection: sqlite3.Connection, seqs: Sequence[int], now: float) -> list[Receipt]:
    """End these messages if they still wait; one that was served in part is sent."""
    rows = (connection.execute(_STILL_WAITING, (seq,)).fetchone() for seq in seqs)
    return [_expired(connection, row, now) for row in rows if row]


def reroute(connection: sqlite3.Connection, queue: str, route: str, other: str, most: int) -> int:
    """Move messages that nobody has tried in this round from one queue of their route to another."""
    return connection.execute(_REROUTE, (other, queue, route, most)).rowcount


def forget(connection: sqlite3.Connection, seqs: Sequence[int]) -> None:
    """Remove bodies, attachments and idempotency keys of settled messages; receipts stay."""
    files = _files_of(connection, seqs)
    for table in ("bodies", "message_files", "idempotency_keys"):
        connection.executemany(f"DELETE FROM {table} WHERE seq = ?", [(seq,) for seq in seqs])
    connection.executemany(_DROP_FILE, files)


def purge(connection: sqlite3.Connection, seqs: Sequence[int]) -> int:
    """Remove settled messages with all that is known of them; returns how many went."""
    files = _files_of(connection, seqs)
    removed = sum(connection.execute(_PURGE, (seq,)).rowcount for seq in seqs)
    connection.executemany(_DROP_FILE, files)
    return removed


def unknown(id_: str) -> MessageNotFound:
    """The error for an id that no message here has."""
    return MessageNotFound(f"no message {id_} in this outbox; `postroom outbox list` shows what there is")


def resume(connection: sqlite3.Connection, account: str) -> bool:
    """End the rest or pause of an account's queues; False when they had none."""
    rows = connection.execute(_HEALTHS, (f"{account}/*",)).fetchall()
    healths = [AccountHealth.model_validate_json(text) for (text,) in rows]
    ended = [health for health in healths if health.paused or health.consecutive_failures or health.cooldown_until]
    for health in ended:
        keep_health(connection, AccountHealth(queue=health.queue, latency=health.latency))
    return bool(ended)


def keep_health(connection: sqlite3.Connection, health: AccountHealth) -> None:
    """Write down how an account does."""
    connection.execute(_KEEP_HEALTH, (health.queue, health.model_dump_json()))


def _subject_of(connection: sqlite3.Connection, event: Event) -> tuple[int | None, str | None]:
    """Find the message a report is about, by our id or by the provider's; an account speaks of its own only."""
    queue = queue_of(event.account, event.channel) if event.account else ""
    concerned = {"channel": event.channel, "account": event.account, "queue": queue, "own": f"{queue}/own"}
    concerned["tried"] = f'"account":{json.dumps(event.account, ensure_ascii=False)}'
    for query, name in ((_BY_ID, event.message_id), (_BY_PROVIDER_ID, event.provider_message_id)):
        row = connection.execute(query, {**concerned, "name": name}).fetchone() if name else None
        if row:
            return row[0], row[1]
    return None, None


def _after(receipt: Receipt, move: Transition, to: Status, note: str) -> Receipt:
    """Let the results of recipients say what the move has settled."""
    outcome = {
        Transition.LEARN_SENT: Outcome.ACCEPTED,
        Transition.LEARN_FAILED: Outcome.PERMANENT,
        Transition.LEARN_NOT_TAKEN: Outcome.TRANSIENT,
        Transition.DELIVER: Outcome.ACCEPTED,
    }.get(move)
    results = receipt.recipients
    if outcome:
        said = {"outcome": outcome, **({"detail": note} if note else {})}
        results = tuple(r.model_copy(update=said) if r.outcome is Outcome.UNKNOWN else r for r in results)
    return receipt.model_copy(update={"status": to, "recipients": results})


def _progress_after(progress: Progress, receipt: Receipt, move: Transition) -> Progress:
    """Who may be tried again: when a person says so, all who were not accepted."""
    if move in _SENDS_AGAIN:
        results = {result.address: result.outcome for result in receipt.recipients}
        if any(outcome is Outcome.ACCEPTED for outcome in results.values()):
            return Progress(pending=tuple(a for a, outcome in results.items() if outcome is not Outcome.ACCEPTED))
        return Progress()
    return progress


def _refuse_without_body(connection: sqlite3.Connection, seq: int, id_: str, queue: str) -> None:
    row = connection.execute("SELECT options IS NOT NULL FROM bodies WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        raise StateConflict(f"message {id_} was settled long ago and its text removed; send it as a new message")
    if queue.endswith("/own") and not row[0]:
        raise StateConflict(
            f"message {id_} came with credentials of its own, which were removed when it was settled; send it as a "
            "new message"
        )


def _files_of(connection: sqlite3.Connection, seqs: Sequence[int]) -> list[tuple[bytes]]:
    return [row for seq in seqs for row in connection.execute("SELECT hash FROM message_files WHERE seq = ?", (seq,))]


def _expired(connection: sqlite3.Connection, row: tuple[Any, ...], now: float) -> Receipt:
    seq, id_, channel, status, receipt_text, queue = row
    receipt = receipt_of(id_, channel, status, receipt_text, queue)
    to = Status.SENT if receipt.accepted else apply(Status(status), Transition.EXPIRE)
    if any(result.outcome is Outcome.UNKNOWN for result in receipt.recipients):
        to = Status.IN_DOUBT
    connection.execute(
        "UPDATE messages SET status = ?, due_at = ?, settled_at = ? WHERE seq = ?",
        (to, NEVER, now if to in SETTLED else None, seq),
    )
    if to in SETTLED:
        connection.execute("UPDATE bodies SET options = NULL WHERE seq = ? AND options IS NOT NULL", (seq,))
    return receipt.model_copy(update={"status": to})


_MOVES = {
    "sent": Transition.LEARN_SENT,
    "delivered": Transition.DELIVER,
    "bounced": Transition.BOUNCE,
    "rejected": Transition.BOUNCE,
}
"""What a report does to its message; a provider that rejects one it had taken bounces it."""

_SETTLED_SQL = ", ".join(f"'{status}'" for status in sorted(SETTLED))
_FOUND = (
    "SELECT seq, channel, status, receipt, queue, progress FROM messages "
    "WHERE id = :id AND (:tenant IS NULL OR tenant = :tenant)"
)
_CHANGE = (
    "UPDATE messages SET status = :status, due_at = :due_at, receipt = :receipt, progress = :progress, "
    "settled_at = :settled_at, owner = NULL WHERE seq = :seq"
)
_CONCERNED = (
    "m.channel = :channel AND (:account IS NULL OR m.queue IN (:queue, :own) OR instr(coalesce(m.receipt, ''), :tried))"
)
_BY_ID = f"SELECT m.seq, m.id FROM messages m WHERE m.id = :name AND {_CONCERNED}"
_BY_PROVIDER_ID = (
    "SELECT m.seq, m.id FROM provider_ids p JOIN messages m USING (seq) "
    f"WHERE p.provider_id = :name AND {_CONCERNED} ORDER BY m.seq DESC LIMIT 1"
)
_STILL_WAITING = (
    f"SELECT seq, id, channel, status, receipt, queue FROM messages WHERE seq = ? AND status IN {WAITING_SQL}"
)
_REROUTE = (
    "UPDATE messages SET queue = ? WHERE seq IN (SELECT seq FROM messages INDEXED BY ready "
    f"WHERE queue = ? AND route = ? AND status IN {WAITING_SQL} "
    "AND (progress IS NULL OR progress NOT LIKE '%\"tried\"%') LIMIT ?)"
)
_PURGE = f"DELETE FROM messages WHERE seq = ? AND status IN ({_SETTLED_SQL})"
_DROP_FILE = "DELETE FROM files WHERE hash = ? AND NOT EXISTS (SELECT 1 FROM message_files a WHERE a.hash = files.hash)"
_HEALTHS = "SELECT health FROM queues WHERE queue GLOB ? AND health IS NOT NULL"
_KEEP_HEALTH = (
    "INSERT INTO queues (queue, health) VALUES (?, ?) ON CONFLICT (queue) DO UPDATE SET health = excluded.health"
)
