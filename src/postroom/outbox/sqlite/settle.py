"""Writing down what came of hand-overs.

One statement writes them all: with every statement, and every row it returns, this thread lets go of the
interpreter, and waits until the loop gives it back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from postroom.outbox.records import brings_credentials
from postroom.outbox.reports import disproven, message_after, settled
from postroom.outbox.serialization import dump_progress
from postroom.outbox.sqlite import reports, suppressions
from postroom.outbox.sqlite.schema import quoted
from postroom.outbox.sqlite.stored import of_seq, write
from postroom.outbox.states import SETTLED
from postroom.outbox.suppression import learned
from postroom.outbox.transitions import OPEN_TO_NEWS, is_late_news, teaches

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from postroom.events import Event
    from postroom.outbox.records import AccountHealth, Settlement
    from postroom.receipts import Receipt

    Settled = tuple[list[Settlement | None], list[tuple[Event, Receipt]]]


def settle(connection: sqlite3.Connection, owner: int, settlements: Sequence[Settlement], now: float) -> Settled:
    """Write results. None where another worker has taken the message over: then only late news of it counts.

    Returns them as they were written, and the reports that had waited for their ids, each with its message's receipt.
    What they show of recipients is written in any case.
    """
    if not settlements:
        return [], []
    claims = json.dumps([(done.seq, done.attempts) for done in settlements])
    for entry in (entry for done in settlements for entry in done.suppressions):
        suppressions.put(connection, entry)
    owned = set(json.loads(connection.execute(_OWNED, (claims, owner)).fetchone()[0]))
    ours, adopted = _write(connection, [done for done in settlements if done.seq in owned], now)
    written = iter(ours)
    answers: list[Settlement | None] = []
    for done in settlements:
        if done.seq in owned:
            answers.append(next(written))
        elif _is_late_news(connection, done):
            late, more = _write(connection, [done], now)
            answers += late
            adopted += more
        else:
            answers.append(None)
    return answers, adopted


def keep_health(connection: sqlite3.Connection, health: AccountHealth) -> None:
    """Write down how an account does."""
    connection.execute(_KEEP_HEALTH, (health.queue, health.model_dump_json()))


def _values(done: Settlement, now: float) -> tuple[Any, ...]:
    return (
        done.status,
        done.queue,
        done.route,
        done.due_at,
        done.crashes,
        dump_progress(done.progress),
        done.receipt.model_dump_json(exclude_none=True),
        now if done.status in SETTLED else None,
        done.seq,
    )


def _write(
    connection: sqlite3.Connection, results: Sequence[Settlement], now: float
) -> tuple[list[Settlement], list[tuple[Event, Receipt]]]:
    """Write results as reports of their messages make them, and remove the credentials of what is settled."""
    kept = _with_ids_of_their_own(connection, results, now)
    new = [each.value for done in kept for each in done.provider_ids]
    adopted = reports.adopt(connection, new) if new else []
    known = reports.of_messages(connection, [done.seq for done in kept])
    written = [settled(done, known.get(done.seq, ())) for done in kept]
    connection.execute(_SETTLE, (to_json([_values(done, now) for done in written]).decode(),))
    read = [done for done in written if not done.unread]
    own = [done.seq for done in read if done.status in SETTLED and brings_credentials(done.queue)]
    if own:
        connection.execute(_REMOVE_CREDENTIALS, (json.dumps(own),))
    by_seq = {done.seq: done for done in written}
    of_these = [(event, by_seq[seq]) for seq, event in adopted if seq in by_seq]
    for event, done in of_these:
        suppression = learned(event)
        if suppression and teaches(event, message_after(done)):
            suppressions.put(connection, suppression)
    return written, [(event, done.receipt) for event, done in of_these]


def _with_ids_of_their_own(
    connection: sqlite3.Connection, results: Sequence[Settlement], now: float
) -> list[Settlement]:
    """Keep the names that reports will use. A result is replaced whose message was found by what is another's."""
    new = [(done.seq, done.receipt.channel, each) for done in results for each in done.provider_ids]
    if not new:
        return list(results)
    contested = reports.contested(connection, new)
    reports.keep_ids(connection, [each for each in new if each[0] not in contested])
    return [_contesting(connection, done, now) if done.seq in contested else done for done in results]


def _contesting(connection: sqlite3.Connection, done: Settlement, now: float) -> Settlement:
    for each in done.provider_ids:
        losers = reports.keep_contested(connection, done.seq, done.receipt.channel, each)
        if losers is None and done.otherwise:
            return done.otherwise
        for loser in losers or ():
            message = of_seq(connection, loser)
            after = disproven(message, each.value)
            if after:
                write(connection, message, after, now)
    return done


def _is_late_news(connection: sqlite3.Connection, done: Settlement) -> bool:
    """Whether this is late news of a message that nobody has in hand, nor has handed over since."""
    return is_late_news(done) and connection.execute(_IS_OPEN, (done.seq, done.attempts)).fetchone() is not None


_OWNED = (
    "SELECT json_group_array(m.seq) FROM json_each(?) claim CROSS JOIN messages m ON m.seq = claim.value ->> 0 "
    "WHERE m.attempts = claim.value ->> 1 AND m.owner = ?"
)
_SETTLE = (
    "UPDATE messages SET status = done.value ->> 0, queue = done.value ->> 1, route = done.value ->> 2, "
    "due_at = done.value ->> 3, crashes = done.value ->> 4, progress = done.value ->> 5, receipt = done.value ->> 6, "
    "settled_at = done.value ->> 7, owner = NULL FROM json_each(?) done WHERE seq = done.value ->> 8"
)
_REMOVE_CREDENTIALS = "UPDATE bodies SET options = NULL WHERE seq IN (SELECT value FROM json_each(?))"
_IS_OPEN = (
    f"SELECT 1 FROM messages WHERE seq = ? AND owner IS NULL AND attempts = ? AND status IN {quoted(OPEN_TO_NEWS)}"
)
_KEEP_HEALTH = (
    "INSERT INTO queues (queue, health) VALUES (?, ?) ON CONFLICT (queue) DO UPDATE SET health = excluded.health"
)
