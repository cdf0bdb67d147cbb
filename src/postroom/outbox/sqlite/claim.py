"""What a worker takes out of the outbox, and what it puts back."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from postroom.errors import Outcome, PostroomError
from postroom.outbox.records import NEVER, NOW, ClaimedMessage, Settlement, account_of
from postroom.outbox.serialization import load_message
from postroom.outbox.sqlite.schema import WAITING_SQL
from postroom.outbox.sqlite.settle import progress_of
from postroom.outbox.states import Transition, allowed_from
from postroom.receipts import Channel, Receipt, RecipientResult, Status

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from postroom.outbox.encryption import CredentialCipher
    from postroom.outbox.records import ClaimLimit

MOST_BYTES = 67_108_864
"""Bodies and attachments a worker takes in one turn; a single larger message still goes."""

BURST = 0.045
"""Seconds of a rate that may start together: what a worker makes up for after it was kept waiting."""

SAFETY_FACTOR = 0.985
"""Part of an account's rate that is used, so that what the network bunches together stays within it."""

_ROUNDING = 1e-6

Row = tuple[Any, ...]


def queues(connection: sqlite3.Connection) -> list[str]:
    """Every queue with waiting messages; the cost grows with the queues, not with the messages."""
    return [queue for (queue,) in connection.execute(_QUEUES) if queue is not None]


def anything_due(connection: sqlite3.Connection, queue: str, now: float) -> bool:
    """Whether a claim of `queue` would find a message."""
    return any(connection.execute(_IS_DUE, (queue, priority, now)).fetchone() for priority in range(3))


def next_due(connection: sqlite3.Connection, queue: str, now: float) -> float:
    """When the next message of `queue` becomes due; NEVER when none will."""
    times = (connection.execute(_NEXT, (queue, priority, now)).fetchone()[0] for priority in range(3))
    return min((time for time in times if time is not None), default=NEVER)


def claim(
    connection: sqlite3.Connection, owner: int, wants: Mapping[str, ClaimLimit], now: float
) -> tuple[list[Row], float]:
    """Give `owner` up to as many due messages as it wants of each queue: the most urgent, then the longest waiting.

    Returns their rows, and when a queue that is at its rate may go on. A worker that the others gave up gets nothing.
    """
    if not _is_listed(connection, owner):
        return [], NEVER
    rows: list[Row] = []
    budget, free_again = MOST_BYTES, NEVER
    for queue, want in wants.items():
        free_slots, queue_free = _free_slots(connection, queue, want, now)
        free_again = min(free_again, queue_free)
        chosen = _chosen(connection, queue, free_slots, now)
        taken: list[int] = []
        for seq, size in chosen:
            if budget <= 0 and (rows or taken):
                break
            budget -= size
            taken.append(seq)
        if taken:
            if want.rate:
                _advance(connection, queue, len(taken), want.rate, now)
            rows += _taken(connection, taken, owner, now)
        if budget <= 0:
            break
    return rows, free_again


def take_over(connection: sqlite3.Connection, dead: int, heartbeats: int, owner: int) -> list[Row]:
    """Give `owner` what a dead worker had claimed; nothing if that one shows life after all, or `owner` is given up."""
    if not _is_listed(connection, owner):
        return []
    gone = connection.execute("DELETE FROM workers WHERE number = ? AND heartbeats = ?", (dead, heartbeats)).rowcount
    if not gone:
        return []
    seqs = [seq for (seq,) in connection.execute(_OWNED, (dead,))]
    for seq in seqs:
        connection.execute("UPDATE messages SET owner = ?, crashes = crashes + 1 WHERE seq = ?", (owner, seq))
    return _rows(connection, seqs)


def any_doubted(connection: sqlite3.Connection, now: float) -> bool:
    """Whether a provider may be asked about a message in doubt now."""
    return connection.execute(_DOUBTED, (now, 1)).fetchone() is not None


def claim_doubted(connection: sqlite3.Connection, owner: int, now: float, limit: int) -> list[Row]:
    """Give `owner` messages in doubt whose provider may be asked now. They stay in doubt meanwhile."""
    seqs = [seq for (seq,) in connection.execute(_DOUBTED, (now, limit))]
    for seq in seqs:
        connection.execute("UPDATE messages SET owner = ?, due_at = ? WHERE seq = ?", (owner, now + 60, seq))
    return _rows(connection, seqs)


def entry_of(row: Row, seal: CredentialCipher, files: Mapping[int, bytes]) -> ClaimedMessage | PostroomError:
    """Turn a row into an entry; an error when it cannot be read back."""
    (seq, id_, channel, status, queue, route, attempts, crashes, expires_at, begun_at, single_round, size,
     progress, receipt, body, sealed) = row  # fmt: skip
    try:
        options = seal.open(bytes.fromhex(sealed), id_) if sealed else {}
        message = load_message(Channel(channel), body, files.__getitem__, options, id_)
        return ClaimedMessage(
            seq=seq,
            id=id_,
            status=Status(status),
            queue=queue,
            route=route,
            message=message,
            attempts=attempts,
            crashes=crashes,
            expires_at=expires_at,
            begun_at=begun_at,
            single_round=bool(single_round),
            size=size,
            progress=progress_of(progress),
            receipt=Receipt.model_validate_json(receipt) if receipt else None,
        )
    except PostroomError as error:
        return error
    except (ValueError, TypeError, KeyError) as error:
        return PostroomError(f"message {id_} cannot be read back from the outbox ({type(error).__name__})")


def files_of(connection: sqlite3.Connection, row: Row) -> dict[int, bytes]:
    """The contents of a message's attachments, by their number."""
    return dict(connection.execute(_FILES, row[:1]).fetchall()) if '"attachments":' in row[-2] else {}


def unreadable(row: Row, error: PostroomError) -> Settlement:
    """Set a message aside whose row was changed or damaged."""
    id_, channel, queue = row[1], row[2], row[4]
    known = Channel(channel) if channel in set(Channel) else Channel.EMAIL
    note = RecipientResult(address="", outcome=Outcome.PERMANENT, code=error.code, detail=str(error))
    return Settlement(
        seq=row[0],
        attempts=row[6],
        status=Status.FAILED,
        receipt=Receipt(
            id=str(id_), channel=known, status=Status.FAILED, account=account_of(queue), recipients=(note,)
        ),
        queue=queue,
        route=row[5],
    )


def register(connection: sqlite3.Connection, name: str) -> int:
    """Enter a worker; returns its number, which is never given again."""
    number = connection.execute("INSERT INTO workers (name) VALUES (?)", (name,)).lastrowid
    assert number
    return number


def sign_off(connection: sqlite3.Connection, number: int) -> None:
    """Take a worker off the list; one that still has something in its hands stays, for others to take over."""
    connection.execute(_SIGN_OFF, {"number": number})


def beat(connection: sqlite3.Connection, number: int) -> bool:
    """Show that the worker lives; False when the others gave it up already."""
    return (
        connection.execute("UPDATE workers SET heartbeats = heartbeats + 1 WHERE number = ?", (number,)).rowcount == 1
    )


def workers(connection: sqlite3.Connection) -> dict[int, int]:
    """Every worker's number and how often it showed life."""
    return dict(connection.execute("SELECT number, heartbeats FROM workers").fetchall())


def _is_listed(connection: sqlite3.Connection, number: int) -> bool:
    """Whether others watch this worker: what an unlisted one claimed, nobody would take over when it dies."""
    return connection.execute("SELECT 1 FROM workers WHERE number = ?", (number,)).fetchone() is not None


def _free_slots(connection: sqlite3.Connection, queue: str, want: ClaimLimit, now: float) -> tuple[int, float]:
    """How many messages may start now, by the account's concurrency and rate over all workers."""
    under_way = connection.execute(_UNDER_WAY, (queue,)).fetchone()[0]
    free_slots = min(want.limit, want.most_under_way - under_way)
    if free_slots <= 0 or not want.rate:
        return max(free_slots, 0), NEVER
    interval = 1 / (want.rate * SAFETY_FACTOR)
    limits = max(interval, BURST)
    behind = _theoretical_start(connection, queue, interval, now) - now
    tokens = math.floor((limits - behind) / interval + _ROUNDING)
    return max(min(free_slots, tokens), 0), now + behind + interval - limits


def _advance(connection: sqlite3.Connection, queue: str, started: int, rate: float, now: float) -> None:
    interval = 1 / (rate * SAFETY_FACTOR)
    until = _theoretical_start(connection, queue, interval, now) + started * interval
    connection.execute(_PACE, (queue, until))


def _theoretical_start(connection: sqlite3.Connection, queue: str, interval: float, now: float) -> float:
    """The theoretical time of the next start (GCRA). A clock set back must not stop the queue for long."""
    found = connection.execute("SELECT theoretical_start FROM queues WHERE queue = ?", (queue,)).fetchone()
    until = found[0] if found else 0.0
    return now if until > now + 1 + interval else max(now, until)


def _chosen(connection: sqlite3.Connection, queue: str, free_slots: int, now: float) -> list[tuple[int, int]]:
    """Numbers and sizes of up to `free_slots` messages: by priority, and within it those whose time came first."""
    found: list[tuple[int, int]] = []
    for priority in range(3):
        for query, values in ((_OVERDUE, (queue, priority, now)), (_FRESH, (queue, priority))):
            if free_slots > len(found):
                [text] = connection.execute(query, (*values, free_slots - len(found))).fetchone()
                found += json.loads(text)
    return found


def _taken(connection: sqlite3.Connection, seqs: list[int], owner: int, now: float) -> list[Row]:
    connection.execute(_TAKE, (owner, now, json.dumps(seqs)))
    return _rows(connection, seqs)


def _rows(connection: sqlite3.Connection, seqs: list[int]) -> list[Row]:
    """The rows of entries, in the order of their numbers here."""
    rows: list[Row] = from_json(connection.execute(_ROWS, (json.dumps(seqs),)).fetchone()[0])
    return rows


def _quoted(states: frozenset[Status]) -> str:
    return "(" + ", ".join(f"'{state}'" for state in sorted(states)) + ")"


_READY = f"FROM messages INDEXED BY ready WHERE queue = ? AND priority = ? AND status IN {WAITING_SQL}"
_QUEUES = f"""
    WITH RECURSIVE found (queue) AS (
        SELECT min(queue) FROM messages INDEXED BY ready WHERE status IN {WAITING_SQL}
        UNION ALL
        SELECT (SELECT min(m.queue) FROM messages m INDEXED BY ready
                WHERE m.queue > found.queue AND m.status IN {WAITING_SQL})
        FROM found WHERE found.queue IS NOT NULL
    ) SELECT queue FROM found"""
_IS_DUE = f"SELECT 1 {_READY} AND due_at <= ? LIMIT 1"
_NEXT = f"SELECT min(due_at) {_READY} AND due_at > ?"
_PAIRS = "SELECT json_group_array(json_array(seq, size)) FROM (SELECT seq, size {} LIMIT ?)"
_OVERDUE = _PAIRS.format(f"{_READY} AND due_at > {NOW} AND due_at <= ? ORDER BY due_at, seq")
_FRESH = _PAIRS.format(f"{_READY} AND due_at = {NOW} ORDER BY seq")
_UNDER_WAY = f"SELECT count(*) FROM messages INDEXED BY under_way WHERE queue = ? AND status = '{Status.SENDING}'"
_OWNED = f"SELECT seq FROM messages WHERE status = '{Status.SENDING}' AND owner = ?"
_SIGN_OFF = (
    "DELETE FROM workers WHERE number = :number AND NOT EXISTS "
    f"(SELECT 1 FROM messages WHERE status = '{Status.SENDING}' AND owner = :number)"
)
_DOUBTED = f"SELECT seq FROM messages INDEXED BY in_doubt WHERE status = '{Status.IN_DOUBT}' AND due_at <= ? LIMIT ?"
_FILES = "SELECT number, content FROM message_files JOIN files USING (hash) WHERE seq = ?"
_PACE = (
    "INSERT INTO queues (queue, theoretical_start) VALUES (?, ?) "
    "ON CONFLICT (queue) DO UPDATE SET theoretical_start = excluded.theoretical_start"
)
_TAKE = (
    f"UPDATE messages SET status = '{Status.SENDING}', owner = ?, attempts = attempts + 1, begun_at = ? "
    f"WHERE seq IN (SELECT value FROM json_each(?)) AND status IN {_quoted(allowed_from(Transition.CLAIM))}"
)
_ROWS = (
    "SELECT json_group_array(json_array(m.seq, m.id, channel, status, queue, route, attempts, crashes, expires_at, "
    "begun_at, single_round, size, progress, receipt, body, hex(options))) FROM json_each(?) wanted "
    "CROSS JOIN messages m ON m.seq = wanted.value CROSS JOIN bodies b ON b.seq = m.seq"
)
