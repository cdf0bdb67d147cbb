"""The tables of the SQLite outbox, and the steps from each version to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.errors import OutboxError
from postroom.outbox.states import WAITING
from postroom.receipts import Status

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

APPLICATION_ID = 0x706F7374
"""`post`, in the file's header (https://sqlite.org/pragma.html#pragma_application_id): this file is ours."""


def quoted(states: frozenset[Status]) -> str:
    """States as the right side of an IN."""
    return "(" + ", ".join(f"'{state}'" for state in sorted(states)) + ")"


WAITING_SQL = quoted(WAITING)

_FIRST = f"""
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    status TEXT NOT NULL,
    lane TEXT NOT NULL,
    choice TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    once INTEGER NOT NULL,
    owner INTEGER,
    begun_at REAL NOT NULL DEFAULT 0,
    progress TEXT,
    receipt TEXT,
    size INTEGER NOT NULL,
    created_at REAL NOT NULL,
    settled_at REAL
);
CREATE INDEX ready ON messages (lane, priority, due_at, seq) WHERE status IN {WAITING_SQL};
CREATE INDEX under_way ON messages (lane, owner) WHERE status = '{Status.SENDING}';
CREATE INDEX doubted ON messages (due_at) WHERE status = '{Status.IN_DOUBT}';
CREATE INDEX attention ON messages (status, seq)
    WHERE status NOT IN ('{Status.SENT}', '{Status.DELIVERED}', '{Status.QUEUED}', '{Status.SENDING}');
CREATE INDEX of_tenant ON messages (tenant, seq) WHERE tenant != '';
CREATE TABLE bodies (
    seq INTEGER PRIMARY KEY REFERENCES messages ON DELETE CASCADE,
    body TEXT NOT NULL,
    options BLOB
);
CREATE TABLE files (hash BLOB PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE attached (
    seq INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
    number INTEGER NOT NULL,
    hash BLOB NOT NULL REFERENCES files,
    PRIMARY KEY (seq, number)
) WITHOUT ROWID;
CREATE INDEX attached_by_hash ON attached (hash);
CREATE TABLE keys (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
    fingerprint BLOB NOT NULL,
    accepted_as TEXT NOT NULL,
    PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE INDEX keys_by_message ON keys (seq);
CREATE TABLE handles (
    handle TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
    PRIMARY KEY (handle, seq)
) WITHOUT ROWID;
CREATE INDEX handles_by_message ON handles (seq);
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    seq INTEGER REFERENCES messages ON DELETE CASCADE,
    fingerprint TEXT NOT NULL UNIQUE,
    received_at REAL NOT NULL,
    event TEXT NOT NULL
);
CREATE INDEX events_by_message ON events (seq);
CREATE TABLE workers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    beats INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE lanes (lane TEXT PRIMARY KEY, paced_until REAL NOT NULL DEFAULT 0, health TEXT) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""

_SECOND = """
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    created_at REAL NOT NULL,
    revoked_at REAL,
    flagged_at REAL,
    suspended_at REAL
) WITHOUT ROWID;
CREATE TABLE api_counts (
    key_id TEXT NOT NULL,
    name TEXT NOT NULL,
    slots TEXT NOT NULL,
    stale_at REAL NOT NULL,
    PRIMARY KEY (key_id, name)
) WITHOUT ROWID;
CREATE INDEX api_counts_by_age ON api_counts (stale_at);
CREATE TABLE suppressions (
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    category TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT,
    since REAL NOT NULL,
    lifted INTEGER NOT NULL,
    PRIMARY KEY (channel, address, category)
) WITHOUT ROWID;
"""
"""Of the gateway: API keys, what they used within which window of time, and who must not be written to."""

_THIRD = """
ALTER TABLE messages RENAME COLUMN lane TO queue;
ALTER TABLE messages RENAME COLUMN choice TO route;
ALTER TABLE messages RENAME COLUMN once TO single_round;
ALTER TABLE attached RENAME TO message_files;
ALTER TABLE keys RENAME TO idempotency_keys;
ALTER TABLE handles RENAME TO provider_ids;
ALTER TABLE provider_ids RENAME COLUMN handle TO provider_id;
ALTER TABLE lanes RENAME TO queues;
ALTER TABLE queues RENAME COLUMN lane TO queue;
ALTER TABLE queues RENAME COLUMN paced_until TO theoretical_start;
ALTER TABLE facts RENAME TO meta;
ALTER TABLE workers RENAME COLUMN beats TO heartbeats;
DROP INDEX doubted;
DROP INDEX attached_by_hash;
DROP INDEX keys_by_message;
DROP INDEX handles_by_message;
CREATE INDEX in_doubt ON messages (due_at) WHERE status = 'in_doubt';
CREATE INDEX message_files_by_hash ON message_files (hash);
CREATE INDEX idempotency_keys_by_message ON idempotency_keys (seq);
CREATE INDEX provider_ids_by_message ON provider_ids (seq);
UPDATE messages
    SET progress = json_remove(json_set(progress, '$.pending', json_extract(progress, '$.left')), '$.left')
    WHERE json_type(progress, '$.left') IS NOT NULL;
UPDATE messages
    SET progress = json_remove(json_set(progress, '$.recipients', json_extract(progress, '$.aim')), '$.aim')
    WHERE json_type(progress, '$.aim') IS NOT NULL;
UPDATE queues SET health = json_object(
    'queue', queue,
    'failure_rate', json_extract(health, '$.trouble'),
    'latency', json_extract(health, '$.latency'),
    'consecutive_failures', json_extract(health, '$.strikes'),
    'observed_at', json_extract(health, '$.observed_at'),
    'cooldown_until', json_extract(health, '$.rests_until'),
    'paused', json(CASE WHEN json_extract(health, '$.paused') THEN 'true' ELSE 'false' END),
    'reason', json_extract(health, '$.reason')
) WHERE health IS NOT NULL;
"""
"""The field's words for what the first step named otherwise."""

STEPS: tuple[str, ...] = (_FIRST, _SECOND, _THIRD)
"""`STEPS[n]` leads from version n to n + 1."""


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or bring them to this version; raises OutboxError for a file that is not ours or newer."""
    ours = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if ours != APPLICATION_ID and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise OutboxError(f"{path} is the database of another program; name another file in [outbox] url")
    if version > len(STEPS):
        raise OutboxError(
            f"{path} was written by a newer postroom (outbox version {version}, this one knows {len(STEPS)}); "
            "upgrade postroom, or name another file in [outbox] url"
        )
    if version < len(STEPS):
        _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN EXCLUSIVE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for step in STEPS[version:]:
            for statement in _statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """`executescript` would commit between them."""
    return [statement for statement in script.split(";\n") if statement.strip()]
