"""Looking things up; none of this writes."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from postroom.errors import PostroomError, SearchTooBroad
from postroom.outbox.copy_mark import CopyMark
from postroom.outbox.records import NEVER, AccountHealth, Ownership, account_of, channel_of, queue_of
from postroom.outbox.serialization import left_out, load_message
from postroom.outbox.sqlite import damage, reports
from postroom.outbox.sqlite.schema import WAITING_SQL
from postroom.outbox.transitions import was_planned_ahead
from postroom.outbox.views import PRIORITIES, MessageRow, OutboxStats, QueueBacklog, details_of, moment, summary_of
from postroom.receipts import Channel, Receipt, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from postroom.messages import Message
    from postroom.outbox.views import MessageDetails, MessageFilter, MessageSummary


_log = logging.getLogger("postroom.outbox")

MOST_STEPS = 5_000_000
"""Steps of SQLite's machine in one search of a tenant: some 300,000 messages, or a second."""

_STEPS_A_CALL = 10_000

MOST_BYTES_PRUNED = 16_777_216
"""Bodies and attachments removed in one transaction, so that others wait for milliseconds and the WAL stays small."""


def version(connection: sqlite3.Connection) -> int:
    """A number that is another one once another connection has written."""
    found: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return found


def notice(connection: sqlite3.Connection) -> str:
    """Why nobody may write here, where the outbox was copied; else empty."""
    found = connection.execute("SELECT value FROM meta WHERE name = 'copy'").fetchone()
    mark = CopyMark.load(found[0]) if found else None
    return mark.notice if mark and mark.is_fenced else ""


def receipt_of(id_: str, channel: str, status: str, receipt: str | bytes | None, queue: str) -> Receipt:
    """Return the receipt as it is now; of one that is damaged only what stands beside it."""
    if receipt is not None:
        try:
            return Receipt.model_validate_json(receipt).model_copy(update={"status": damage.status(status)})
        except ValueError:
            _log.error("the receipt of message %s cannot be read back from the outbox", id_)
    return Receipt.of(
        id=damage.text(id_),
        channel=damage.channel(channel),
        status=damage.status(status),
        account=account_of(damage.text(queue)),
    )


def used_keys(connection: sqlite3.Connection, keys: Sequence[str], tenant: str) -> frozenset[str]:
    """Those idempotency keys that stand for a message of the tenant."""
    found = (connection.execute(_USED, (tenant, key)).fetchone() for key in keys)
    return frozenset(row[0] for row in found if row)


def find(connection: sqlite3.Connection, id_: str, tenant: str | None, *, contents: bool) -> MessageDetails | None:
    """Return all that is known of one message; None when there is none, or it is another tenant's."""
    known = connection.execute(_KNOWN, {"id": id_, "tenant": tenant}).fetchone()
    if known is None:
        return None
    [seq] = known
    with damage.tolerated(connection):
        found = _one(connection, seq)
    files = damage.intact_files(connection, seq).__getitem__ if contents else left_out
    return details_of(_row(found, files), reports.of_one(connection, seq))


def _one(connection: sqlite3.Connection, seq: int) -> tuple[Any, ...]:
    """Read one message; without its body where a page with it is damaged."""
    row: tuple[Any, ...]
    try:
        row = connection.execute(f"{_ROWS} WHERE m.seq = ?", (seq,)).fetchone()
    except sqlite3.DatabaseError as error:
        if not damage.is_damage(error):
            raise
        row = connection.execute(f"{_WITHOUT_BODIES} WHERE m.seq = ?", (seq,)).fetchone()
    return row


def receipt(connection: sqlite3.Connection, id_: str) -> tuple[Receipt, str] | None:
    """Return how a message stands, and its queue."""
    with damage.tolerated(connection):
        found = connection.execute("SELECT id, channel, status, receipt, queue FROM messages WHERE id = ?", (id_,))
        row = found.fetchone()
    return (receipt_of(*row), row[-1]) if row else None


def listed(connection: sqlite3.Connection, where: MessageFilter) -> list[MessageSummary]:
    """Return the messages meant, the newest first.

    Raises SearchTooBroad for a tenant whose search would look at more than MOST_STEPS of them.
    """
    with damage.tolerated(connection), _bounded(connection) if where.tenant is not None else nullcontext():
        try:
            return _chosen(connection.execute(*_search(_ROWS, where)), where)
        except sqlite3.DatabaseError as error:
            if not damage.is_damage(error):
                raise
        # A page with one of their bodies is damaged, which also may be what `to` looks through: each by itself then.
        numbers = connection.execute(
            *_search("SELECT m.seq FROM messages m", replace(where, to=None), all_=where.to is not None)
        )
        return _chosen((_one(connection, seq) for (seq,) in numbers.fetchall()), where)


def _search(select: str, where: MessageFilter, *, all_: bool = False) -> tuple[str, list[Any]]:
    conditions, values = _conditions(where)
    condition = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"{select} {condition} ORDER BY m.seq DESC LIMIT ?", [*values, -1 if where.to or all_ else where.limit]


def _chosen(rows: Iterable[tuple[Any, ...]], where: MessageFilter) -> list[MessageSummary]:
    found: list[MessageSummary] = []
    for row in rows:
        line = summary_of(_row(row, left_out))
        if where.to is None or any(where.to in address for address in line.to):
            found.append(line)
        if len(found) == where.limit:
            break
    return found


@contextmanager
def _bounded(connection: sqlite3.Connection) -> Iterator[None]:
    """End a query after MOST_STEPS of SQLite's machine, by whose counter it is the same on every computer."""
    calls = iter(range(MOST_STEPS // _STEPS_A_CALL))
    connection.set_progress_handler(lambda: int(next(calls, None) is None), _STEPS_A_CALL)
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        raise SearchTooBroad(
            "too many messages would have to be looked at; narrow it with since and until, or go on from a cursor"
        ) from None
    finally:
        connection.set_progress_handler(None, 0)


def expired(connection: sqlite3.Connection, now: float, most: int) -> list[int]:
    """Waiting messages whose time is over."""
    return [seq for (seq,) in connection.execute(_EXPIRED, (now, most))]


def planned_ahead(connection: sqlite3.Connection, now: float, most: int) -> list[tuple[int, float, float]]:
    """Number, due time and last claim of messages that were planned by a clock which has been set back since."""
    later = chain.from_iterable(connection.execute(select, (now,)) for select in (_WAITING_LATER, _IN_DOUBT_LATER))
    ahead = (
        (seq, due_at, begun_at)
        for seq, status, due_at, begun_at in later
        if was_planned_ahead(Status(status), due_at, begun_at, now)
    )
    return list(islice(ahead, most))


def settled_before(connection: sqlite3.Connection, time: float, most: int) -> list[int]:
    """Messages settled before `time` that still have their bodies: `most`, or fewer that hold much together."""
    found: list[int] = []
    size = 0
    for seq, bytes_ in connection.execute(_SETTLED_BEFORE, (time, most)):
        found.append(seq)
        size += bytes_
        if size > MOST_BYTES_PRUNED:
            break
    return found


def waiting_routes(connection: sqlite3.Connection, queue: str) -> list[str]:
    """The routes, accounts and providers by which messages came into a queue."""
    return [route for (route,) in connection.execute(_ROUTES, (queue,))]


def stats(connection: sqlite3.Connection) -> OutboxStats:
    """Count messages by state and queue."""
    states: Counter[Status] = Counter()
    with damage.tolerated(connection):
        for status, count in connection.execute(_STATES):
            states[damage.status(status)] += count
        sizes = connection.execute(_QUEUE_SIZES).fetchall()
    waiting = tuple(QueueBacklog(queue=damage.text(queue), messages=count) for queue, count in sizes)
    oldest = connection.execute(_OLDEST).fetchone()[0]
    return OutboxStats(
        states=dict(states),
        waiting=waiting,
        accounts=tuple(health(connection).values()),
        workers=connection.execute("SELECT count(*) FROM workers").fetchone()[0],
        oldest_waiting=moment(oldest) if oldest else None,
    )


def health(connection: sqlite3.Connection) -> dict[str, AccountHealth]:
    """The health of every queue that was used, by queue; one that is damaged counts as none."""
    found: dict[str, AccountHealth] = {}
    with damage.tolerated(connection):
        for queue, text in connection.execute("SELECT queue, health FROM queues WHERE health IS NOT NULL"):
            try:
                found[queue] = AccountHealth.model_validate_json(text)
            except ValueError:
                _log.error("the outbox cannot read how %s does, and begins anew", queue)
    return found


def ownership(
    connection: sqlite3.Connection, provider_id: str, queue: str, seq: int, recipients: Sequence[str]
) -> Ownership:
    """Whose an id is that was found for recipients of a message in `queue`."""
    account, channel = account_of(queue), channel_of(queue)
    if reports.has_another(connection, (channel, account, provider_id), seq):
        return Ownership.ANOTHER
    queues = [queue_of(account, channel, own_credentials=own) for own in (False, True)]
    # An address as the stored text has it, quotes and all, is found without reading thousands of texts back.
    written = json.dumps([to_json(recipient).decode() for recipient in recipients])
    under_way = connection.execute(_UNDER_WAY_TO, (*queues, seq, written)).fetchone()
    return Ownership.UNCERTAIN if under_way else Ownership.FREE


def any_orphan(connection: sqlite3.Connection, before: float) -> bool:
    """Whether there are reports received before a time of messages that are not here."""
    return connection.execute(_ANY_ORPHAN, (before,)).fetchone() is not None


def _row(row: tuple[Any, ...], files: Callable[[int], bytes]) -> MessageRow:
    (seq, id_, channel, status, queue, route, priority, due_at, expires_at, attempts, crashes, begun_at, created_at,
     settled_at, receipt, body) = row  # fmt: skip
    return MessageRow(
        seq=seq,
        id=damage.text(id_),
        channel=damage.channel(channel),
        status=damage.status(status),
        queue=damage.text(queue),
        route=damage.text(route),
        priority=priority if priority in range(len(PRIORITIES)) else PRIORITIES.index("normal"),
        due_at=damage.number(due_at, NEVER),
        expires_at=damage.number(expires_at, NEVER),
        attempts=int(damage.number(attempts, 0)),
        crashes=int(damage.number(crashes, 0)),
        begun_at=damage.number(begun_at, 0.0),
        created_at=damage.number(created_at, 0.0),
        settled_at=damage.number(settled_at, 0.0),
        receipt=receipt_of(id_, channel, status, receipt, queue),
        message=None if body is None else _message(damage.channel(channel), body, files, damage.text(id_)),
    )


def _message(channel: Channel, body: str | bytes, files: Callable[[int], bytes], id_: str) -> Message | None:
    """The message without its credentials; None when it cannot be read back, which a worker will report."""
    if not isinstance(body, str):
        return None
    try:
        return load_message(channel, body, files, {}, id_)
    except (PostroomError, ValueError, TypeError, KeyError):
        return None


def _conditions(where: MessageFilter) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if where.to is not None:  # in SQLite, where no other thread waits for it; what is found is looked at again
        conditions.append("(instr(body, ?) OR instr(receipt, ?))")
        values += [json.dumps(where.to, ensure_ascii=False)[1:-1]] * 2
    if where.status:
        conditions.append(f"m.status IN ({', '.join('?' * len(where.status))})")
        values += list(where.status)
    for condition, value in (
        ("m.channel = ?", where.channel),
        ("m.queue GLOB ? || '/*'", where.account),
        ("m.tenant = ?", where.tenant),
        ("m.created_at >= ?", where.since),
        ("m.created_at < ?", where.until),
        ("m.seq < ?", where.before_seq),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    return conditions, values


_ROWS = (
    "SELECT m.seq, id, channel, status, queue, route, priority, due_at, expires_at, attempts, crashes, begun_at, "
    "created_at, settled_at, receipt, body FROM messages m LEFT JOIN bodies USING (seq)"
)
_WITHOUT_BODIES = _ROWS.replace("receipt, body", "receipt, NULL").replace(" LEFT JOIN bodies USING (seq)", "")
_KNOWN = "SELECT seq FROM messages WHERE id = :id AND (:tenant IS NULL OR tenant = :tenant)"
_USED = "SELECT k.key FROM idempotency_keys k JOIN messages USING (seq) WHERE k.tenant = ? AND k.key = ?"
_UNDER_WAY_TO = (
    f"SELECT 1 FROM messages m INDEXED BY under_way JOIN bodies b USING (seq) WHERE m.queue IN (?, ?) "
    f"AND m.status = '{Status.SENDING}' AND m.seq != ? "
    "AND EXISTS (SELECT 1 FROM json_each(?) address WHERE instr(b.body, address.value)) LIMIT 1"
)
_ANY_ORPHAN = (
    "SELECT 1 FROM events INDEXED BY orphans_by_age "
    "WHERE seq IS NULL AND provider_id IS NOT NULL AND received_at <= ? LIMIT 1"
)
_EXPIRED = f"SELECT seq FROM messages INDEXED BY ready WHERE status IN {WAITING_SQL} AND expires_at <= ? LIMIT ?"
_LATER = (
    "SELECT seq, status, due_at, begun_at FROM messages INDEXED BY {} WHERE status {} AND due_at > ? "
    "AND due_at <= {} AND typeof(begun_at) IN ('real', 'integer')"
)
_WAITING_LATER = _LATER.format("ready", f"IN {WAITING_SQL}", NEVER)
_IN_DOUBT_LATER = _LATER.format("in_doubt", f"= '{Status.IN_DOUBT}'", NEVER) + f" AND due_at < {NEVER}"
_SETTLED_BEFORE = "SELECT b.seq, m.size FROM bodies b JOIN messages m USING (seq) WHERE m.settled_at <= ? LIMIT ?"
_ROUTES = (
    f"SELECT DISTINCT route FROM (SELECT route FROM messages INDEXED BY ready WHERE queue = ? "
    f"AND status IN {WAITING_SQL} LIMIT 10000)"
)
_STATES = "SELECT status, count(*) FROM messages GROUP BY status"
_QUEUE_SIZES = (
    f"SELECT queue, count(*) FROM messages INDEXED BY ready WHERE status IN {WAITING_SQL} GROUP BY queue ORDER BY queue"
)
_OLDEST = (
    f"SELECT min(created_at) FROM messages INDEXED BY ready WHERE status IN {WAITING_SQL} AND due_at < {NEVER} "
    "AND typeof(created_at) IN ('real', 'integer')"
)
