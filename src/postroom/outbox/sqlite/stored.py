"""One message as it lies in the file, for changes that are not a worker's results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.outbox.records import NEVER, StoredMessage
from postroom.outbox.serialization import dump_progress, load_progress, recipients_of
from postroom.outbox.sqlite import damage
from postroom.outbox.sqlite.query import receipt_of
from postroom.outbox.sqlite.schema import quoted
from postroom.receipts import Status

if TYPE_CHECKING:
    import sqlite3

    from postroom.outbox.transitions import Transitioned
    from postroom.receipts import Receipt


def write(connection: sqlite3.Connection, message: StoredMessage, after: Transitioned, now: float) -> Receipt:
    """Write a message down as a transition left it; whoever asks about it now keeps it while its state is the same."""
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


def of_seq(connection: sqlite3.Connection, seq: int) -> StoredMessage:
    """Return the message with this number, which is there."""
    message = stored(connection, "seq = :seq", {"seq": seq})
    assert message
    return message


def stored(connection: sqlite3.Connection, condition: str, values: dict[str, object]) -> StoredMessage | None:
    """Return the first message for which the condition holds."""
    with damage.tolerated(connection):
        row = connection.execute(f"{_STORED} WHERE {condition}", values).fetchone()
    if row is None:
        return None
    seq, id_, channel, status, receipt, queue, progress, due_at, expires_at, body, has_body, has_credentials = row
    return StoredMessage(
        seq=seq,
        id=id_,
        queue=damage.text(queue),
        receipt=receipt_of(id_, channel, status, receipt, queue),
        progress=load_progress(progress),
        has_body=bool(has_body),
        has_credentials=bool(has_credentials),
        due_at=damage.number(due_at, NEVER),
        expires_at=damage.number(expires_at, NEVER),
        recipients=recipients_of(damage.channel(channel), body) if body else (),
    )


_STORED = (
    "SELECT seq, id, channel, status, receipt, queue, progress, due_at, expires_at, "
    f"CASE WHEN status NOT IN {quoted(frozenset({Status.SENT, Status.DELIVERED, Status.BOUNCED}))} THEN body END, "
    "body IS NOT NULL, options IS NOT NULL FROM messages LEFT JOIN bodies USING (seq)"
)
_TRANSITION = (
    "UPDATE messages SET status = :status, due_at = :due_at, receipt = :receipt, progress = :progress, "
    "settled_at = :settled_at, owner = CASE WHEN status = :status THEN owner END WHERE seq = :seq"
)
