"""Files of earlier versions: they are brought forward, with everything that is in them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from engines.process import MakeOutbox

from postroom import Email, Event, Status
from postroom.outbox.sqlite.migrations import STEPS
from postroom.outbox.sqlite.schema import APPLICATION_ID, TABLES, VERSION

NOW = 1_800_000_000.0
ANN, BOB = "ann@example.org", "bob@example.org"
HEALTH = {
    "lane": "a0/email",
    "trouble": 0.2,
    "latency": 0.5,
    "strikes": 1,
    "observed_at": NOW,
    "rests_until": NOW + 5000,
    "paused": True,
    "reason": "bad credentials",
}


FIRST_VERSION = """
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
CREATE INDEX ready ON messages (lane, priority, due_at, seq) WHERE status IN ('held', 'queued', 'retrying', 'scheduled');
CREATE INDEX under_way ON messages (lane, owner) WHERE status = 'sending';
CREATE INDEX doubted ON messages (due_at) WHERE status = 'in_doubt';
CREATE INDEX attention ON messages (status, seq)
    WHERE status NOT IN ('sent', 'delivered', 'queued', 'sending');
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


class OldFile:
    """The database as the first steps of the schema made it, filled with their words."""

    def __init__(self, path: Path, version: int) -> None:
        self.connection = sqlite3.connect(path)
        self.connection.executescript(FIRST_VERSION + "".join(STEPS[: version - 1]))
        self.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self.connection.execute(f"PRAGMA user_version = {version}")
        self.connection.execute("INSERT INTO facts VALUES ('salt', ?)", (bytes(32),))

    def message(self, id_: str, status: str, *, progress: dict[str, Any] | None = None, **columns: Any) -> None:
        outcomes = {"sent": "accepted", "in_doubt": "unknown", "retrying": "transient"}
        results = [{"address": ANN, "outcome": outcomes[status]}] if status in outcomes else []
        receipt = {"id": id_, "channel": "email", "status": status, "account": "a0", "recipients": results}
        values = {
            "id": id_,
            "tenant": "",
            "channel": "email",
            "status": status,
            "lane": "a0/email",
            "choice": "r",
            "priority": 1,
            "due_at": 9e15 if status in {"sent", "in_doubt", "held"} else 0.0,
            "expires_at": NOW + 100_000,
            "once": 0,
            "progress": json.dumps(progress) if progress else None,
            "receipt": json.dumps(receipt) if results else None,
            "size": 10,
            "created_at": NOW,
            "settled_at": NOW if status == "sent" else None,
            **columns,
        }
        marks = ", ".join("?" * len(values))
        cursor = self.connection.execute(
            f"INSERT INTO messages ({', '.join(values)}) VALUES ({marks})", tuple(values.values())
        )
        body = {"to": [[ANN, ""], [BOB, ""]], "subject": id_, "text": "x", "attachments": [{"filename": "f"}]}
        content = b"content"
        digest = hashlib.sha256(content).digest()
        self.connection.execute("INSERT INTO bodies VALUES (?, ?, NULL)", (cursor.lastrowid, json.dumps(body)))
        self.connection.execute("INSERT OR IGNORE INTO files VALUES (?, ?)", (digest, content))
        self.connection.execute("INSERT INTO attached VALUES (?, 0, ?)", (cursor.lastrowid, digest))
        self.connection.execute("INSERT INTO handles VALUES (?, ?)", (f"p-{id_}", cursor.lastrowid))
        self.connection.execute("INSERT INTO keys VALUES ('', ?, ?, x'00', ?)", (f"k-{id_}", cursor.lastrowid, status))

    def close(self) -> None:
        self.connection.commit()
        self.connection.close()


@pytest.mark.parametrize("version", range(1, VERSION))
async def test_a_file_of_an_earlier_version_is_brought_forward_with_what_is_in_it(
    make_outbox: MakeOutbox, stage: ModuleType, tmp_path: Path, version: int
) -> None:
    old = OldFile(tmp_path / "outbox.db", version)
    old.message("queued", "queued")
    old.message("partly", "retrying", progress={"left": [BOB], "aim": [BOB], "tried": {"a1": [BOB]}, "rounds": 1})
    old.message("once", "queued", once=1)
    old.message("doubted", "in_doubt", progress={"left": [], "asked": 2})
    old.message("held", "held")
    old.message("sent", "sent")
    old.connection.execute("INSERT INTO lanes VALUES ('a0/email', ?, ?)", (NOW, json.dumps(HEALTH)))
    old.connection.execute("INSERT INTO lanes VALUES ('a1/email', 0, NULL)")
    old.connection.execute("INSERT INTO workers (name, beats) VALUES ('old', 3)")
    old.close()

    script = stage.Script()
    async with make_outbox(script) as post:
        stats = await post.outbox.stats()
        assert stats.states == {Status.QUEUED: 2, Status.RETRYING: 1, Status.IN_DOUBT: 1, Status.HELD: 1, "sent": 1}
        [account] = stats.accounts
        assert (account.queue, account.paused, account.consecutive_failures) == ("a0/email", True, 1)
        assert (account.cooldown_until, account.reason) == (NOW + 5000, "bad credentials")
        assert stats.workers == 1

        bounce = {"type": "bounced", "channel": "email", "provider": "stage", "occurred_at": NOW}
        moved = await post.outbox.record(Event.model_validate({**bounce, "provider_message_id": "p-sent"}))
        assert moved is not None
        assert (moved.id, moved.status) == ("sent", Status.BOUNCED)
        [again] = await post.outbox.add([Email(to=ANN, text="y", idempotency_key="k-held")])
        assert "k-held" in str(again), "the key was used, for another message"

        await post.outbox.resume("a0")
        await post.outbox.resolve("doubted", "failed")
        await post.work()
        receipts = {
            id_: (await post.outbox.get(id_)).receipt for id_ in ("queued", "partly", "once", "doubted", "held")
        }
    assert {id_: receipt.status for id_, receipt in receipts.items()} == {
        "queued": "sent",
        "partly": "sent",
        "once": "sent",
        "doubted": "failed",
        "held": "held",
    }
    sent = {message.subject: message for message in script.messages}
    assert sent["partly"].recipients == (BOB,)
    assert sent["queued"].recipients == (ANN, BOB)
    assert sent["queued"].attachments[0].content == b"content"
    with sqlite3.connect(tmp_path / "outbox.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_file_brought_forward_has_the_tables_of_a_fresh_one() -> None:
    fresh, old = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    fresh.executescript(TABLES)
    old.executescript(FIRST_VERSION + "".join(STEPS))
    assert tables_of(old) == tables_of(fresh)
    fresh.close()
    old.close()


def tables_of(connection: sqlite3.Connection) -> dict[str, list[object]]:
    """What each table is made of: columns, foreign keys, and indexes with what they are over and about."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found: dict[str, list[object]] = {}
    for table in names:
        found[table] = connection.execute(f"PRAGMA table_info({table})").fetchall()
        found[table] += connection.execute(f"PRAGMA foreign_key_list({table})").fetchall()
        for _, index, unique, origin, partial in sorted(connection.execute(f"PRAGMA index_list({table})")):
            columns = connection.execute(f"PRAGMA index_info({index})").fetchall()
            sql = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,)).fetchone()
            condition = sql[0].partition("WHERE ")[2] if origin == "c" else ""
            name = index if origin == "c" else ""
            found[table].append((name, unique, origin, partial, columns, condition.replace('"', "")))
        found[table].sort(key=str)
    return found
