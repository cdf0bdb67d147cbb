"""The tables of the SQLite outbox, made in a fresh file, or brought to this version in an older one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.errors import OutboxError
from postroom.outbox.sqlite.migrations import STEPS
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

TABLES = f"""
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    channel TEXT NOT NULL,
    status TEXT NOT NULL,
    queue TEXT NOT NULL,
    route TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    single_round INTEGER NOT NULL,
    owner INTEGER,
    begun_at REAL NOT NULL DEFAULT 0,
    progress TEXT,
    receipt TEXT,
    size INTEGER NOT NULL,
    created_at REAL NOT NULL,
    settled_at REAL
);
CREATE INDEX ready ON messages (queue, priority, due_at, seq) WHERE status IN {WAITING_SQL};
CREATE INDEX under_way ON messages (queue, owner) WHERE status = '{Status.SENDING}';
CREATE INDEX in_doubt ON messages (due_at) WHERE status = '{Status.IN_DOUBT}';
CREATE INDEX attention ON messages (status, seq)
    WHERE status NOT IN ('{Status.SENT}', '{Status.DELIVERED}', '{Status.QUEUED}', '{Status.SENDING}');
CREATE INDEX of_tenant ON messages (tenant, seq) WHERE tenant != '';
CREATE TABLE bodies (
    seq INTEGER PRIMARY KEY REFERENCES messages ON DELETE CASCADE,
    body TEXT NOT NULL,
    options BLOB
);
CREATE TABLE files (hash BLOB PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE message_files (
    seq INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
    number INTEGER NOT NULL,
    hash BLOB NOT NULL REFERENCES files,
    PRIMARY KEY (seq, number)
) WITHOUT ROWID;
CREATE INDEX message_files_by_hash ON message_files (hash);
CREATE TABLE early_files (hash BLOB PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE idempotency_keys (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
    fingerprint BLOB NOT NULL,
    accepted_as TEXT NOT NULL,
    PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_message ON idempotency_keys (seq);
CREATE TABLE provider_ids (
    channel TEXT NOT NULL,
    account TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
    kind TEXT NOT NULL,
    PRIMARY KEY (provider_id, channel, account, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX provider_ids_of_one ON provider_ids (channel, account, provider_id) WHERE kind != 'shared';
CREATE INDEX provider_ids_by_message ON provider_ids (seq);
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    seq INTEGER REFERENCES messages ON DELETE CASCADE,
    fingerprint TEXT NOT NULL UNIQUE,
    received_at REAL NOT NULL,
    event TEXT NOT NULL,
    provider_id TEXT
);
CREATE INDEX events_by_message ON events (seq);
CREATE INDEX orphans ON events (provider_id) WHERE seq IS NULL AND provider_id IS NOT NULL;
CREATE INDEX orphans_by_age ON events (received_at) WHERE seq IS NULL AND provider_id IS NOT NULL;
CREATE TABLE workers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    heartbeats INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE queues (queue TEXT PRIMARY KEY, theoretical_start REAL NOT NULL DEFAULT 0, health TEXT) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
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
    PRIMARY KEY (channel, address, category, reason)
) WITHOUT ROWID;
"""
"""The outbox's own, and then the gateway's: API keys, and what they used within which window of time."""

VERSION = len(STEPS) + 1


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or bring them to this version; raises OutboxError for a file that is not ours or newer."""
    ours = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if ours != APPLICATION_ID and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise OutboxError(f"{path} is the database of another program; name another file in [outbox] url")
    if version > VERSION:
        raise OutboxError(
            f"{path} was written by a newer postroom (outbox version {version}, this one knows {VERSION}); "
            "upgrade postroom, or name another file in [outbox] url"
        )
    if version < VERSION:
        _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN EXCLUSIVE")
    try:
        # Read again: another process may have done it before this one got the lock.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for script in STEPS[version - 1 :] if version else (TABLES,):
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """`executescript` would commit between them."""
    return [statement for statement in script.split(";\n") if statement.strip()]
