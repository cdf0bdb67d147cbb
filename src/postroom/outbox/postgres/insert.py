"""Accepting messages: rows, bodies, attachments once by their content, idempotency keys."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from postroom.outbox.postgres.query import receipt_of
from postroom.outbox.records import EnqueueResult, Progress
from postroom.outbox.serialization import dump_progress
from postroom.outbox.statements import Statement
from postroom.outbox.transitions import accepted, id_taken, key_conflict
from postroom.outbox.views import PRIORITIES
from postroom.receipts import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncpg import Connection

    from postroom.errors import PostroomError
    from postroom.outbox.serialization import SerializedMessage
    from postroom.outbox.statements import Steps

Key = tuple[str, str]


class KeyTaken(Exception):
    """Somebody else has just used an idempotency key of these; the transaction must be made again."""


def insert(
    messages: Sequence[SerializedMessage], now: float, schema: str
) -> Steps[list[EnqueueResult | PostroomError]]:
    """Store each message, or answer with what its idempotency key stands for already.

    On a caller's connection too: tables are named with their schema. Raises KeyTaken when another transaction took a
    key of these meanwhile.
    """
    known = yield from _known(messages, schema)
    fresh: list[SerializedMessage] = []
    firsts: dict[Key, SerializedMessage] = {}
    for one in messages:
        key = _key(one)
        if key is None or not (key in known or key in firsts):
            fresh.append(one)
            if key is not None:
                firsts[key] = one
    stored = yield from _stored(fresh, now, schema)
    answers: list[EnqueueResult | PostroomError] = []
    left = iter(stored)
    for one in messages:
        key = _key(one)
        if key is not None and key in known:
            answers.append(_repeated(one, known[key]))
        elif key is not None and firsts[key] is not one:
            answers.append(_twice(one, firsts[key], answers[messages.index(firsts[key])]))
        else:
            answers.append(next(left))
    return answers


async def used_keys(connection: Connection, keys: Sequence[str], tenant: str) -> frozenset[str]:
    """Those idempotency keys that stand for a message of the tenant."""
    return frozenset(key for (key,) in await connection.fetch(_USED, tenant, keys))


def _known(messages: Sequence[SerializedMessage], schema: str) -> Steps[Mapping[Key, Sequence[Any]]]:
    """What the idempotency keys of these stand for already."""
    keys = [key for one in messages if (key := _key(one)) is not None]
    if not keys:
        return {}
    rows = yield Statement(within(schema, _KNOWN), ([tenant for tenant, _ in keys], [key for _, key in keys]))
    return {(tenant, key): row for tenant, key, *row in rows}


def _repeated(one: SerializedMessage, first: Sequence[Any]) -> EnqueueResult | PostroomError:
    fingerprint, accepted_as, id_, channel, status, receipt, queue = first
    if fingerprint != one.fingerprint:
        return key_conflict(one.new, id_)
    return EnqueueResult(receipt_of(id_, channel, status, receipt, queue), Status(accepted_as), replayed=True)


def _twice(
    one: SerializedMessage, first: SerializedMessage, answer: EnqueueResult | PostroomError
) -> EnqueueResult | PostroomError:
    """The answer for a key that was given twice in one call."""
    if not isinstance(answer, EnqueueResult):
        return answer
    if first.fingerprint != one.fingerprint:
        return key_conflict(one.new, answer.receipt.id)
    return EnqueueResult(answer.receipt, answer.accepted_as, replayed=True)


def _stored(
    messages: Sequence[SerializedMessage], now: float, schema: str
) -> Steps[list[EnqueueResult | PostroomError]]:
    if not messages:
        return []
    columns = zip(*[_values(one, now) for one in messages], strict=True)
    rows = yield Statement(within(schema, _INSERT), [list(column) for column in columns])
    seqs: dict[str, int] = {row[0]: row[1] for row in rows}
    answers: list[EnqueueResult | PostroomError] = []
    stored: list[tuple[int, SerializedMessage]] = []
    for one in messages:
        id_ = one.new.message.id or ""
        seq = seqs.pop(id_, None)
        answers.append(id_taken(id_) if seq is None else accepted(one.new))
        if seq is not None:
            stored.append((seq, one))
    if stored:
        yield from _store_bodies(stored, schema)
        yield from _store_keys(stored, schema)
    return answers


def _store_bodies(stored: Sequence[tuple[int, SerializedMessage]], schema: str) -> Steps[None]:
    yield Statement(
        within(schema, _INSERT_BODIES),
        (
            [seq for seq, _ in stored],
            [one.body for _, one in stored],
            [one.credentials for _, one in stored],
        ),
    )
    files = dict(sorted(file for _, one in stored for file in one.files))
    if files:
        yield Statement(within(schema, _INSERT_FILES), ([*files], [*files.values()]))
        links = [(seq, number, hash_) for seq, one in stored for number, (hash_, _) in enumerate(one.files)]
        yield Statement(within(schema, _INSERT_LINKS), [list(column) for column in zip(*links, strict=True)])


def _store_keys(stored: Sequence[tuple[int, SerializedMessage]], schema: str) -> Steps[None]:
    # In one order for all, so that two callers with the same keys do not wait for each other.
    keys = sorted(
        (*key, seq, one.fingerprint, str(one.new.status)) for seq, one in stored if (key := _key(one)) is not None
    )
    if keys:
        columns = [list(column) for column in zip(*keys, strict=True)]
        if len((yield Statement(within(schema, _INSERT_KEYS), columns))) < len(keys):
            raise KeyTaken


@cache
def within(schema: str, sql: str) -> str:
    """Return a statement with the names of its tables in their schema."""
    return sql.format(schema=f'"{schema}"')


def _key(one: SerializedMessage) -> Key | None:
    return (one.new.tenant, one.new.message.idempotency_key or "") if one.fingerprint is not None else None


def _values(one: SerializedMessage, now: float) -> tuple[object, ...]:
    new, message = one.new, one.new.message
    return (
        message.id,
        new.tenant,
        str(message.channel_name),
        str(new.status),
        new.queue,
        new.route,
        PRIORITIES.index(message.priority),
        new.due_at,
        new.expires_at,
        new.single_round,
        one.size,
        now,
        dump_progress(Progress(recipients=new.recipients, held_until=new.held_until)),
    )


_KNOWN = (
    "SELECT k.tenant, k.key, k.fingerprint, k.accepted_as, m.id, m.channel, m.status, m.receipt, m.queue "
    "FROM unnest($1::text[], $2::text[]) AS wanted (tenant, key) "
    "JOIN {schema}.idempotency_keys k ON k.tenant = wanted.tenant AND k.key = wanted.key "
    "JOIN {schema}.messages m ON m.seq = k.seq"
)
_USED = "SELECT key FROM idempotency_keys WHERE tenant = $1 AND key = ANY ($2::text[])"
_INSERT = (
    "INSERT INTO {schema}.messages (id, tenant, channel, status, queue, route, priority, due_at, expires_at, "
    "single_round, size, created_at, progress) "
    "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], "
    "$6::text[], $7::smallint[], $8::float8[], $9::float8[], $10::boolean[], $11::bigint[], $12::float8[], "
    "$13::text[]) ON CONFLICT (id) DO NOTHING RETURNING id, seq"
)
_INSERT_BODIES = "INSERT INTO {schema}.bodies SELECT * FROM unnest($1::bigint[], $2::text[], $3::bytea[])"
_INSERT_FILES = "INSERT INTO {schema}.files SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING"
_INSERT_LINKS = "INSERT INTO {schema}.message_files SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bytea[])"
_INSERT_KEYS = (
    "INSERT INTO {schema}.idempotency_keys SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[], "
    "$5::text[]) ON CONFLICT DO NOTHING RETURNING 1"
)
