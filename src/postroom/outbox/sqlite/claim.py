"""Giving due messages to workers."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from postroom.errors import OutboxError, PostroomError
from postroom.outbox import gcra
from postroom.outbox.records import NEVER, NOW, ClaimedMessage, UnreadableMessage
from postroom.outbox.serialization import LARGE, has_contents, load_message, load_progress, may_be_out
from postroom.outbox.sqlite import damage
from postroom.outbox.sqlite.schema import WAITING_SQL, quoted
from postroom.outbox.states import Transition, allowed_from
from postroom.outbox.views import moment
from postroom.outcomes import Outcome
from postroom.receipts import Channel, Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from postroom.outbox.encryption import CredentialCipher
    from postroom.outbox.records import ClaimLimit

ASKED_AGAIN_AFTER = 60.0
"""Seconds until another worker asks about a message in doubt whose asker said nothing."""

Row = tuple[Any, ...]

_STATUSES, _CHANNELS = {str(each): each for each in Status}, {str(each): each for each in Channel}
_TEXT, _NUMBERS = frozenset({str}), frozenset({int, float})


def due_queues(connection: sqlite3.Connection) -> dict[str, float]:
    """When the first message of each queue is due; the cost grows with the queues, not with the messages."""
    with damage.tolerated(connection):
        found = connection.execute(_DUE_QUEUES).fetchall()
    return {queue: due_at for queue, due_at in found if isinstance(queue, str)}


def claim(
    connection: sqlite3.Connection, owner: int, limits: Mapping[str, ClaimLimit], now: float
) -> tuple[list[int], float]:
    """Give `owner` up to as many due messages of each queue as its limit says: the most urgent, then the oldest.

    Returns their numbers, and when a queue that is at its rate may go on. A worker that the others gave up gets
    nothing. Their `rows` are read when this is committed.
    """
    if not _is_registered(connection, owner):
        return [], NEVER
    claimed: list[int] = []
    free_at = NEVER
    for queue, limit in limits.items():
        free_slots, queue_free_at = _free_slots(connection, queue, limit, now)
        free_at = min(free_at, queue_free_at)
        taken: list[int] = []
        free_bytes = limit.size
        for seq, size in _due(connection, queue, free_slots, now):
            if free_bytes <= 0:
                break
            free_bytes -= size
            taken.append(seq)
        if taken:
            if limit.rate:
                until = gcra.advanced(_theoretical_start(connection, queue), limit.rate, now, len(taken))
                connection.execute(_KEEP_START, (queue, until))
            connection.execute(_TAKE, (owner, now, json.dumps(taken)))
            claimed += taken
    return claimed, free_at


def give_up(connection: sqlite3.Connection, dead: int, heartbeats: int, owner: int) -> bool:
    """Take a dead worker off the list for `owner`; False if it shows life after all, or `owner` itself is given up."""
    if not _is_registered(connection, owner):
        return False
    gone = connection.execute("DELETE FROM workers WHERE number = ? AND heartbeats = ?", (dead, heartbeats))
    return gone.rowcount == 1


def take_over(connection: sqlite3.Connection, dead: int, owner: int) -> list[tuple[int, int]]:
    """Give `owner` what another worker had claimed; returns the messages' numbers and attempts."""
    claims: list[tuple[int, int]] = connection.execute(_OWNED, (dead,)).fetchall()
    values = [(owner, seq) for seq, _ in claims]
    connection.executemany("UPDATE messages SET owner = ?, crashes = crashes + 1 WHERE seq = ?", values)
    return claims


def any_in_doubt(connection: sqlite3.Connection, now: float) -> bool:
    """Whether a provider may be asked about a message in doubt now: only then it is worth to write."""
    return connection.execute(_IN_DOUBT, (now, 1)).fetchone() is not None


def claim_in_doubt(connection: sqlite3.Connection, owner: int, now: float, limit: int) -> list[int]:
    """Give `owner` messages in doubt whose provider may be asked now. They stay in doubt meanwhile."""
    seqs = [seq for (seq,) in connection.execute(_IN_DOUBT, (now, limit))]
    connection.execute(_TAKE_IN_DOUBT, (owner, now + ASKED_AGAIN_AFTER, json.dumps(seqs)))
    return seqs


def claim_of(row: Row) -> tuple[int, int]:
    """A claimed row's number and attempt."""
    return row[0], row[6]


def take_long(rows: Sequence[Row]) -> bool:
    """Whether it takes long to read claimed rows back."""
    return sum(size for *_, size, _, _, _, _ in rows if isinstance(size, int)) > LARGE


def claimed_of(
    connection: sqlite3.Connection, row: Row, cipher: CredentialCipher
) -> ClaimedMessage | UnreadableMessage:
    """Read a claimed row back."""
    (seq, id_, channel, status, queue, route, attempts, crashes, expires_at, begun_at, created_at,
     single_round, size, progress, receipt, body, encrypted) = row  # fmt: skip
    doubted = status == Status.IN_DOUBT or may_be_out(receipt)
    try:
        _check_types((id_, queue, route), _TEXT)
        _check_types((attempts, crashes, expires_at, begun_at, created_at, size), _NUMBERS)
        options, locked = cipher.opened(bytes.fromhex(encrypted), id_) if encrypted else ({}, None)
        files = damage.intact_files(connection, seq) if has_contents(body) else {}
        message = ClaimedMessage(
            seq=seq,
            id=id_,
            status=_STATUSES[status],
            queue=queue,
            route=route,
            message=load_message(_CHANNELS[channel], body, files.__getitem__, options, id_),
            attempts=attempts,
            crashes=crashes,
            expires_at=float(expires_at),
            begun_at=float(begun_at),
            created_at=moment(created_at),
            single_round=bool(single_round),
            size=int(size),
            progress=load_progress(progress),
            receipt=Receipt.model_validate_json(receipt) if receipt else None,
        )
        return message if locked is None else UnreadableMessage.without_key(message, locked, in_doubt=doubted)
    except PostroomError as error:
        unreadable = error
    except (ValueError, OverflowError, TypeError, KeyError, sqlite3.Error) as error:
        unreadable = OutboxError(f"message {id_} cannot be read back from the outbox ({type(error).__name__})")
    return UnreadableMessage(
        seq,
        damage.text(id_),
        damage.channel(channel),
        damage.text(queue),
        damage.text(route),
        attempts,
        unreadable,
        in_doubt=doubted,
    )


def _check_types(values: tuple[object, ...], kinds: frozenset[type]) -> None:
    if not kinds.issuperset(map(type, values)):
        raise TypeError(f"not {kinds}")


def lost(connection: sqlite3.Connection, limit: int) -> list[tuple[int, str]]:
    """Messages that no claim and no rescue would ever find, with the reason. Looks through indexes alone."""
    found = [(seq, reason) for select, reason in _LOST for (seq,) in connection.execute(select, (limit,))]
    return found[:limit]


def claim_lost(connection: sqlite3.Connection, owner: int, seqs: Sequence[int], now: float) -> list[tuple[int, int]]:
    """Give `owner` those of these messages that are still lost, in a queue and with a priority that there is.

    Returns their numbers and attempts.
    """
    if not _is_registered(connection, owner):
        return []
    these = [f"{select[: -len(_LIMIT)]} AND seq = ?" for select, _ in _LOST]
    still = {seq for seq in seqs for one in these if connection.execute(one, (seq,)).fetchone()}
    taken: list[tuple[int, int]] = connection.execute(_TAKE_LOST, (owner, now, json.dumps(sorted(still)))).fetchall()
    return taken


def set_aside(message: ClaimedMessage | UnreadableMessage, reason: str) -> UnreadableMessage:
    """Return a message that was lost as one for a person; in doubt where it may have been handed over."""
    error = OutboxError(f"message {message.id} was set aside: {reason}")
    if isinstance(message, UnreadableMessage):
        return replace(message, error=error, in_doubt=message.in_doubt or reason in _MAYBE_SENT)
    attempts = message.receipt.attempts if message.receipt else ()
    return UnreadableMessage(
        message.seq,
        message.id,
        message.message.channel_name,
        message.queue,
        message.route,
        message.attempts,
        error,
        in_doubt=reason in _MAYBE_SENT or any(each.outcome is Outcome.UNKNOWN for each in attempts),
    )


def marked(message: ClaimedMessage | UnreadableMessage, *, begun: bool) -> ClaimedMessage | UnreadableMessage:
    """Return a message of a dead worker, which may have begun to hand it over."""
    if not isinstance(message, ClaimedMessage):
        return replace(message, in_doubt=message.in_doubt or begun)
    message.begun = begun
    return message


def register(connection: sqlite3.Connection, name: str) -> int:
    """Enter a worker; returns its number, which is never given again."""
    number = connection.execute("INSERT INTO workers (name) VALUES (?)", (name,)).lastrowid
    assert number
    return number


def sign_off(connection: sqlite3.Connection, number: int) -> bool:
    """Take a worker off the list; one that still has something in its hands stays, for others to rescue."""
    return connection.execute(_SIGN_OFF, {"number": number}).rowcount == 1


def heartbeat(connection: sqlite3.Connection, number: int) -> bool:
    """Show that the worker lives; False when the others gave it up already."""
    beaten = connection.execute("UPDATE workers SET heartbeats = heartbeats + 1 WHERE number = ?", (number,))
    return beaten.rowcount == 1


def live_workers(connection: sqlite3.Connection) -> dict[int, int]:
    """Every worker's number, and how many heartbeats it has shown."""
    return dict(connection.execute("SELECT number, heartbeats FROM workers").fetchall())


def busy_workers(connection: sqlite3.Connection) -> set[int]:
    """The workers that have messages in hand."""
    return {number for (number,) in connection.execute(_BUSY_WORKERS)}


def _is_registered(connection: sqlite3.Connection, number: int) -> bool:
    """Whether others watch this worker: what an unlisted one claimed, nobody would take over when it dies."""
    return connection.execute("SELECT 1 FROM workers WHERE number = ?", (number,)).fetchone() is not None


def _free_slots(connection: sqlite3.Connection, queue: str, limit: ClaimLimit, now: float) -> tuple[int, float]:
    """How many messages may start now, by the account's concurrency and rate over all workers."""
    under_way = connection.execute(_UNDER_WAY, (queue,)).fetchone()[0]
    free = max(min(limit.limit, limit.most_under_way - under_way), 0)
    if not free or not limit.rate:
        return free, NEVER
    allowed = gcra.allowed(_theoretical_start(connection, queue), limit.rate, now)
    return min(free, allowed.messages), allowed.free_at


def _theoretical_start(connection: sqlite3.Connection, queue: str) -> float:
    found = connection.execute(_START, (queue,)).fetchone()
    return found[0] if found else 0.0


def _due(connection: sqlite3.Connection, queue: str, most: int, now: float) -> list[tuple[int, int]]:
    """Numbers and sizes of due messages: by priority, and within it those whose time came first."""
    found: list[tuple[int, int]] = []
    for priority in range(3):
        for query, values in ((_OVERDUE, (queue, priority, now)), (_FRESH, (queue, priority))):
            if most > len(found):
                [text] = connection.execute(query, (*values, most - len(found))).fetchone()
                found += json.loads(text)
    return found


def rows(connection: sqlite3.Connection, seqs: Sequence[int]) -> list[Row]:
    """Read the rows of messages, in the order of their numbers here.

    Outside of the transaction that claims them: one that meets a damaged page cannot be committed.
    """
    if not seqs:
        return []
    try:
        found: list[Row] = from_json(connection.execute(_ROWS, (json.dumps(seqs),)).fetchone()[0])
    except (sqlite3.Error, ValueError):  # one of them is damaged: each by itself then
        with damage.tolerated(connection):
            return [_row(connection, seq) for seq in seqs]
    return found


def _row(connection: sqlite3.Connection, seq: int) -> Row:
    row: Row
    try:
        row = connection.execute(_ROW, (seq,)).fetchone()
    except sqlite3.Error:  # a page with its body is damaged
        row = connection.execute(_WITHOUT_BODY, (seq,)).fetchone()
    return row


_LIMIT = " LIMIT ?"
_NO_STATUS, _NO_OWNER = "its status is damaged", "it was in the hands of no worker"
_NOT_TO_CLAIM = "its queue, priority or due time is damaged"
_OWNED_BY_NOBODY = "(owner IS NULL OR owner NOT IN (SELECT number FROM workers))"
_IS_QUEUE = "(typeof(queue) = 'text' AND (queue GLOB '?*/email*' OR queue GLOB '?*/sms*'))"

_UNFIT_FOR_CLAIMS = (
    f"(NOT {_IS_QUEUE} OR priority NOT IN (0, 1, 2) OR typeof(due_at) NOT IN ('real', 'integer') OR due_at < {NOW})"
)


def _selects_of_lost() -> list[tuple[str, str]]:
    """Statements that find what is lost, each by the index it is in: what is no status lies between those that are."""
    known = sorted(Status)
    between = [f"status < '{known[0]}'", f"status > '{known[-1]}'"]
    between += [f"status > '{below}' AND status < '{above}'" for below, above in pairwise(known)]
    select = "SELECT seq FROM messages INDEXED BY"
    attention = f"status NOT IN ('{Status.SENT}', '{Status.DELIVERED}', '{Status.QUEUED}', '{Status.SENDING}')"
    return [
        *((f"{select} attention WHERE {attention} AND {each}{_LIMIT}", _NO_STATUS) for each in between),
        (
            f"{select} under_way WHERE status = '{Status.SENDING}' AND {_OWNED_BY_NOBODY}{_LIMIT}",
            _NO_OWNER,
        ),
        (
            f"{select} ready WHERE status IN {WAITING_SQL} AND {_UNFIT_FOR_CLAIMS}{_LIMIT}",
            _NOT_TO_CLAIM,
        ),
    ]


_READY = f"FROM messages INDEXED BY ready WHERE queue = ? AND priority = ? AND status IN {WAITING_SQL}"
_FIRST_DUE = (
    "coalesce((SELECT m.due_at FROM messages m INDEXED BY ready WHERE m.queue = found.queue AND m.priority = {} "
    f"AND m.status IN {WAITING_SQL} AND m.due_at >= {NOW} AND m.due_at <= {NEVER} ORDER BY m.due_at LIMIT 1), {NEVER})"
)
_DUE_QUEUES = f"""
    WITH RECURSIVE found (queue) AS (
        SELECT min(queue) FROM messages INDEXED BY ready WHERE status IN {WAITING_SQL}
        UNION ALL
        SELECT (SELECT min(m.queue) FROM messages m INDEXED BY ready
                WHERE m.queue > found.queue AND m.status IN {WAITING_SQL})
        FROM found WHERE found.queue IS NOT NULL
    )
    SELECT queue, min({", ".join(_FIRST_DUE.format(priority) for priority in range(3))})
    FROM found WHERE queue IS NOT NULL"""
_PAIRS = (
    "SELECT json_group_array(json_array(seq, CASE typeof(size) WHEN 'integer' THEN size ELSE 0 END)) "
    "FROM (SELECT seq, size {} LIMIT ?)"
)
_OVERDUE = _PAIRS.format(f"{_READY} AND due_at > {NOW} AND due_at <= ? ORDER BY due_at, seq")
_FRESH = _PAIRS.format(f"{_READY} AND due_at = {NOW} ORDER BY seq")
_UNDER_WAY = f"SELECT count(*) FROM messages INDEXED BY under_way WHERE queue = ? AND status = '{Status.SENDING}'"
_OWNED = f"SELECT seq, attempts FROM messages WHERE status = '{Status.SENDING}' AND owner = ?"
_BUSY_WORKERS = (
    f"SELECT DISTINCT owner FROM messages INDEXED BY under_way WHERE status = '{Status.SENDING}' "
    "AND owner IN (SELECT number FROM workers)"
)
_SIGN_OFF = (
    "DELETE FROM workers WHERE number = :number AND NOT EXISTS "
    f"(SELECT 1 FROM messages WHERE status = '{Status.SENDING}' AND owner = :number)"
)
_IN_DOUBT = f"SELECT seq FROM messages INDEXED BY in_doubt WHERE status = '{Status.IN_DOUBT}' AND due_at <= ? LIMIT ?"
_TAKE_IN_DOUBT = "UPDATE messages SET owner = ?, due_at = ? WHERE seq IN (SELECT value FROM json_each(?))"
_START = (
    "SELECT CASE WHEN typeof(theoretical_start) IN ('real', 'integer') THEN theoretical_start ELSE 0.0 END "
    "FROM queues WHERE queue = ?"
)
_KEEP_START = (
    "INSERT INTO queues (queue, theoretical_start) VALUES (?, ?) "
    "ON CONFLICT (queue) DO UPDATE SET theoretical_start = excluded.theoretical_start"
)
_TAKE = (
    f"UPDATE messages SET status = '{Status.SENDING}', owner = ?, attempts = CAST(attempts AS INTEGER) + 1, "
    "begun_at = ? "
    f"WHERE seq IN (SELECT value FROM json_each(?)) AND status IN {quoted(allowed_from(Transition.CLAIM))}"
)
_COLUMNS = (
    "m.seq, m.id, channel, status, queue, route, attempts, crashes, expires_at, begun_at, created_at, "
    "single_round, size, progress, receipt, body, hex(options)"
)
_ROWS = (
    f"SELECT json_group_array(json_array({_COLUMNS})) FROM json_each(?) wanted "
    "CROSS JOIN messages m ON m.seq = wanted.value LEFT JOIN bodies b ON b.seq = m.seq"
)
_ROW = f"SELECT {_COLUMNS} FROM messages m LEFT JOIN bodies b USING (seq) WHERE m.seq = ?"
_WITHOUT_BODY = f"SELECT {_COLUMNS.replace('body, hex(options)', 'NULL, NULL')} FROM messages m WHERE m.seq = ?"
_LOST = _selects_of_lost()
_MAYBE_SENT = frozenset({_NO_STATUS, _NO_OWNER})
_TAKE_LOST = (
    f"UPDATE messages SET status = '{Status.SENDING}', owner = ?, attempts = CAST(attempts AS INTEGER) + 1, "
    "begun_at = ?, due_at = 0, priority = CASE WHEN priority IN (0, 1, 2) THEN priority ELSE 1 END, "
    f"queue = CASE WHEN {_IS_QUEUE} THEN queue "
    "ELSE 'damaged/' || CASE channel WHEN 'sms' THEN 'sms' ELSE 'email' END END "
    "WHERE seq IN (SELECT value FROM json_each(?)) RETURNING seq, attempts"
)
