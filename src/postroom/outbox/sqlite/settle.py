"""Writing down what came of hand-overs.

One statement writes them all: with every statement, and every row it returns, this thread lets go of the
interpreter, and waits until the loop gives it back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from postroom.outbox.records import brings_credentials
from postroom.outbox.serialization import dump_progress
from postroom.outbox.sqlite.schema import quoted
from postroom.outbox.states import SETTLED
from postroom.outbox.transitions import OPEN_TO_NEWS, is_late_news

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from postroom.outbox.records import AccountHealth, Settlement


def settle(connection: sqlite3.Connection, owner: int, settlements: Sequence[Settlement], now: float) -> list[bool]:
    """Write results. False where another worker has taken the message over: then only late news of it counts."""
    if not settlements:
        return []
    claims = json.dumps([(done.seq, done.attempts) for done in settlements])
    owned = set(json.loads(connection.execute(_OWNED, (claims, owner)).fetchone()[0]))
    kept = [done.seq in owned for done in settlements]
    ours = [done for done, mine in zip(settlements, kept, strict=True) if mine]
    _write(connection, ours, now)
    return [mine or _written_late(connection, done, now) for done, mine in zip(settlements, kept, strict=True)]


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


def _write(connection: sqlite3.Connection, settlements: Sequence[Settlement], now: float) -> None:
    """Write results, remove the credentials of what is settled, and keep the names reports will use."""
    connection.execute(_SETTLE, (to_json([_values(done, now) for done in settlements]).decode(),))
    own = [done.seq for done in settlements if done.status in SETTLED and brings_credentials(done.queue)]
    if own:
        connection.execute(_REMOVE_CREDENTIALS, (json.dumps(own),))
    provider_ids = [(provider_id, done.seq) for done in settlements for provider_id in done.provider_ids]
    if provider_ids:
        connection.execute(_KEEP_PROVIDER_IDS, (json.dumps(provider_ids),))


def _written_late(connection: sqlite3.Connection, done: Settlement, now: float) -> bool:
    """Take late news of a message that nobody has in hand, nor has handed over since."""
    if not is_late_news(done) or not connection.execute(_IS_OPEN, (done.seq, done.attempts)).fetchone():
        return False
    _write(connection, [done], now)
    return True


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
_KEEP_PROVIDER_IDS = "INSERT OR IGNORE INTO provider_ids SELECT value ->> 0, value ->> 1 FROM json_each(?)"
_IS_OPEN = (
    f"SELECT 1 FROM messages WHERE seq = ? AND owner IS NULL AND attempts = ? AND status IN {quoted(OPEN_TO_NEWS)}"
)
_KEEP_HEALTH = (
    "INSERT INTO queues (queue, health) VALUES (?, ?) ON CONFLICT (queue) DO UPDATE SET health = excluded.health"
)
