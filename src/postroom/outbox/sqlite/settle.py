"""Writing down what came of hand-overs.

One statement writes them all: with every statement, and every row it returns, this thread lets go of the
interpreter, and waits until the loop gives it back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from postroom.outbox.records import Progress
from postroom.outbox.states import SETTLED, Transition, allowed_from
from postroom.receipts import Status

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from postroom.outbox.records import Settlement


def settle(connection: sqlite3.Connection, owner: int, settlements: Sequence[Settlement], now: float) -> list[bool]:
    """Write results. False where another worker has taken the message over: then only news of it counts.

    That a message was sent after all is such news, as long as nobody has handed it over again.
    """
    if not settlements:
        return []
    claims = json.dumps([(done.seq, done.attempts) for done in settlements])
    owned = set(json.loads(connection.execute(_OWNED, (claims, owner)).fetchone()[0]))
    kept = [done.seq in owned for done in settlements]
    ours = [done for done, mine in zip(settlements, kept, strict=True) if mine]
    _write(connection, ours, now)
    return [mine or _learned(connection, done, now) for done, mine in zip(settlements, kept, strict=True)]


def progress_of(text: str | None) -> Progress:
    """Read what `progress_text` wrote."""
    if not text:
        return Progress()
    said = json.loads(text)
    pending, recipients = said.get("pending"), said.get("recipients")
    return Progress(
        pending=None if pending is None else tuple(pending),
        tried=said.get("tried", {}),
        recipients=None if recipients is None else tuple(recipients),
        rounds=said.get("rounds", 0),
        asked=said.get("asked", 0),
    )


def progress_text(progress: Progress) -> str | None:
    """Write the parts that say anything; None when all is as at the beginning."""
    if progress == _NOTHING:
        return None
    said = {
        "pending": progress.pending,
        "tried": progress.tried or None,
        "recipients": progress.recipients,
        "rounds": progress.rounds or None,
        "asked": progress.asked or None,
    }
    return json.dumps({name: value for name, value in said.items() if value is not None})


def _values(done: Settlement, now: float) -> tuple[Any, ...]:
    return (
        done.status,
        done.queue,
        done.route,
        done.due_at,
        done.crashes,
        progress_text(done.progress),
        done.receipt.model_dump_json(exclude_none=True),
        now if done.status in SETTLED else None,
        done.seq,
    )


def _write(connection: sqlite3.Connection, settlements: Sequence[Settlement], now: float) -> None:
    """Write results, remove the credentials of what is settled, and keep the names reports will use."""
    connection.execute(_SETTLE, (to_json([_values(done, now) for done in settlements]).decode(),))
    own = [done.seq for done in settlements if done.queue.endswith("/own") and done.status in SETTLED]
    if own:
        connection.execute(_REMOVE_SECRETS, (json.dumps(own),))
    provider_ids = [(provider_id, done.seq) for done in settlements for provider_id in done.provider_ids]
    if provider_ids:
        connection.execute(_KEEP_PROVIDER_IDS, (json.dumps(provider_ids),))


def _learned(connection: sqlite3.Connection, done: Settlement, now: float) -> bool:
    """Take late news of a message that another worker has put in doubt, or will try again."""
    if done.status is not Status.SENT or not connection.execute(_IS_OPEN, (done.seq, done.attempts)).fetchone():
        return False
    _write(connection, [done], now)
    return True


_NOTHING = Progress()
_OPEN_TO_NEWS = ", ".join(f"'{state}'" for state in sorted(allowed_from(Transition.LEARN_SENT) | {Status.RETRYING}))
_OWNED = (
    "SELECT json_group_array(m.seq) FROM json_each(?) claim CROSS JOIN messages m ON m.seq = claim.value ->> 0 "
    "WHERE m.attempts = claim.value ->> 1 AND m.owner = ?"
)
_SETTLE = (
    "UPDATE messages SET status = done.value ->> 0, queue = done.value ->> 1, route = done.value ->> 2, "
    "due_at = done.value ->> 3, crashes = done.value ->> 4, progress = done.value ->> 5, receipt = done.value ->> 6, "
    "settled_at = done.value ->> 7, owner = NULL FROM json_each(?) done WHERE seq = done.value ->> 8"
)
_REMOVE_SECRETS = "UPDATE bodies SET options = NULL WHERE seq IN (SELECT value FROM json_each(?))"
_KEEP_PROVIDER_IDS = "INSERT OR IGNORE INTO provider_ids SELECT value ->> 0, value ->> 1 FROM json_each(?)"
_IS_OPEN = f"SELECT 1 FROM messages WHERE seq = ? AND owner IS NULL AND attempts = ? AND status IN ({_OPEN_TO_NEWS})"
