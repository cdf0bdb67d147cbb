"""Writing down what came of hand-overs: fenced by the worker and the number of the attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.outbox.postgres import reports, suppressions
from postroom.outbox.postgres.schema import quoted
from postroom.outbox.postgres.stored import lock, write
from postroom.outbox.records import brings_credentials
from postroom.outbox.reports import disproven, message_after, settled
from postroom.outbox.serialization import dump_progress
from postroom.outbox.states import SETTLED
from postroom.outbox.suppression import learned
from postroom.outbox.transitions import OPEN_TO_NEWS, is_late_news, teaches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Connection

    from postroom.events import Event
    from postroom.outbox.records import AccountHealth, Settlement
    from postroom.receipts import Receipt

    Settled = tuple[list[Settlement | None], list[tuple[Event, Receipt]]]


async def settle(connection: Connection, owner: int, settlements: Sequence[Settlement], now: float) -> Settled:
    """Write results. None where another worker has taken the message over: then only late news of it counts.

    Returns them as they were written, and the reports that had waited for their ids, each with its message's receipt.
    What they show of recipients is written in any case.
    """
    if not settlements:
        return [], []
    # In one order for all, so that two transactions with the same people do not wait for each other.
    for entry in sorted((entry for done in settlements for entry in done.suppressions), key=lambda each: each.place):
        await suppressions.put(connection, entry)
    counts = await _counting(connection, owner, settlements)
    counting = [done for done in settlements if done.seq in counts]
    written, adopted = await _write(connection, counting, now) if counting else ([], [])
    left = iter(written)
    return [next(left) if done.seq in counts else None for done in settlements], adopted


async def keep_health(connection: Connection, health: Sequence[AccountHealth]) -> None:
    """Write down how accounts do."""
    ordered = sorted(health, key=lambda each: each.queue)  # two workers must not wait for each other
    await connection.execute(
        _KEEP_HEALTH, [each.queue for each in ordered], [each.model_dump_json() for each in ordered]
    )


async def _counting(connection: Connection, owner: int, settlements: Sequence[Settlement]) -> set[int]:
    """Lock the messages whose results count, and return their numbers: until the end nobody takes them over."""
    seqs, attempts = [done.seq for done in settlements], [done.attempts for done in settlements]
    late = [is_late_news(done) for done in settlements]
    return {seq for (seq,) in await connection.fetch(_COUNTING, owner, seqs, attempts, late)}


async def _write(
    connection: Connection, results: Sequence[Settlement], now: float
) -> tuple[list[Settlement], list[tuple[Event, Receipt]]]:
    """Write results as reports of their messages make them, and remove the credentials of what is settled."""
    kept = await _with_ids_of_their_own(connection, results, now)
    new = [each.value for done in kept for each in done.provider_ids]
    adopted = await reports.adopt(connection, new) if new else []
    known = await reports.of_messages(connection, [done.seq for done in kept])
    written = [settled(done, known.get(done.seq, ())) for done in kept]
    await _write_rows(connection, written, now)
    by_seq = {done.seq: done for done in written}
    of_these = [(event, by_seq[seq]) for seq, event in adopted if seq in by_seq]
    for event, done in of_these:
        suppression = learned(event)
        if suppression and teaches(event, message_after(done)):
            await suppressions.put(connection, suppression)
    return written, [(event, done.receipt) for event, done in of_these]


async def _write_rows(connection: Connection, written: Sequence[Settlement], now: float) -> None:
    await connection.execute(
        _SETTLE,
        [done.seq for done in written],
        [done.status for done in written],
        [done.queue for done in written],
        [done.route for done in written],
        [done.due_at for done in written],
        [done.crashes for done in written],
        [dump_progress(done.progress) for done in written],
        [done.receipt.model_dump_json(exclude_none=True) for done in written],
        [now if done.status in SETTLED else None for done in written],
        [done.status in SETTLED and brings_credentials(done.queue) and not done.unread for done in written],
    )


async def _with_ids_of_their_own(
    connection: Connection, results: Sequence[Settlement], now: float
) -> Sequence[Settlement]:
    """Keep the names that reports will use. A result is replaced whose message was found by what is another's."""
    new = [(done.seq, done.receipt.channel, each) for done in results for each in done.provider_ids]
    if not new:
        return results
    await reports.lock_names(connection, [each.value for _, _, each in new])
    contested = await reports.contested(connection, new)
    await reports.keep_ids(connection, [each for each in new if each[0] not in contested])
    return [await _contesting(connection, done, now) if done.seq in contested else done for done in results]


async def _contesting(connection: Connection, done: Settlement, now: float) -> Settlement:
    for each in done.provider_ids:
        losers = await reports.keep_contested(connection, done.seq, done.receipt.channel, each)
        if losers is None and done.otherwise:
            return done.otherwise
        for loser in losers or ():
            message = await lock(connection, loser)
            after = disproven(message, each.value) if message else None
            if message and after:
                await write(connection, message, after, now)
    return done


_COUNTING = (
    "SELECT m.seq FROM messages m JOIN unnest($2::bigint[], $3::integer[], $4::boolean[]) AS d (seq, attempts, late) "
    "ON m.seq = d.seq AND m.attempts = d.attempts WHERE m.owner = $1 "
    f"OR (d.late AND m.owner IS NULL AND m.status IN {quoted(OPEN_TO_NEWS)}) ORDER BY m.seq FOR UPDATE OF m"
)
_SETTLE = """
WITH done AS (
    SELECT * FROM unnest(
        $1::bigint[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::integer[], $7::text[], $8::text[],
        $9::float8[], $10::boolean[]
    ) AS d (seq, status, queue, route, due_at, crashes, progress, receipt, settled_at, own)
), written AS (
    UPDATE messages m SET status = d.status, queue = d.queue, route = d.route, due_at = d.due_at, crashes = d.crashes,
        progress = d.progress, receipt = d.receipt, settled_at = d.settled_at, owner = NULL
    FROM done d WHERE m.seq = d.seq
), opened AS (
    UPDATE bodies b SET options = NULL FROM done d WHERE d.own AND b.seq = d.seq
)
DELETE FROM begun USING done WHERE begun.seq = done.seq
"""
_KEEP_HEALTH = (
    "INSERT INTO queues (queue, health) SELECT * FROM unnest($1::text[], $2::text[]) "
    "ON CONFLICT (queue) DO UPDATE SET health = excluded.health"
)
