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

from postroom import Accepted, Email, Event, Sms, Status
from postroom.outbox.records import EnqueueResult
from postroom.outbox.sqlite.migrations import STEPS
from postroom.outbox.sqlite.schema import APPLICATION_ID, TABLES, VERSION

NOW = 1_800_000_000.0
ANN, BOB = "ann@example.org", "bob@example.org"
NUMBER = "+447700900000"
RENAMED = {
    "lane": "queue",
    "lanes": "queues",
    "choice": "route",
    "once": "single_round",
    "attached": "message_files",
    "keys": "idempotency_keys",
    "handles": "provider_ids",
    "handle": "provider_id",
    "paced_until": "theoretical_start",
    "facts": "meta",
    "beats": "heartbeats",
    "left": "pending",
    "aim": "recipients",
    "trouble": "failure_rate",
    "strikes": "consecutive_failures",
    "rests_until": "cooldown_until",
}
"""The words of the third version for those of the first."""
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
        self._version = version
        self._words = {} if version < 3 else RENAMED
        self.connection.execute(f"INSERT INTO {self.word('facts')} VALUES ('salt', ?)", (bytes(32),))

    def word(self, first: str) -> str:
        """What this version calls what the first one called `first`."""
        return self._words.get(first, first)

    def insert(self, table: str, **values: Any) -> int:
        """Insert a row, named by the first version's words; returns its number."""
        columns = ", ".join(self.word(name) for name in values)
        marks = ", ".join("?" * len(values))
        statement = f"INSERT INTO {self.word(table)} ({columns}) VALUES ({marks})"
        number = self.connection.execute(statement, tuple(values.values())).lastrowid
        assert number is not None
        return number

    def event(self, type_: str, seq: int | None = None, **more: Any) -> None:
        """A report, of a message here or of none."""
        about = {"channel": "sms", "provider": "stage", "account": "a0", "occurred_at": NOW, **more}
        event = Event.model_validate({"type": type_, **about})
        self.insert(
            "events",
            seq=seq,
            fingerprint=event.fingerprint,
            received_at=NOW,
            event=event.model_dump_json(exclude_none=True),
        )

    def message(self, id_: str, status: str, *, progress: dict[str, Any] | None = None, **columns: Any) -> int:
        outcomes = {"sent": "accepted", "in_doubt": "unknown", "retrying": "transient"}
        results = [{"address": ANN, "outcome": outcomes[status]}] if status in outcomes else []
        channel = columns.get("channel", "email")
        receipt = {"id": id_, "channel": channel, "status": status, "account": "a0", "recipients": results}
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
            "progress": json.dumps({self.word(name): value for name, value in progress.items()}) if progress else None,
            "receipt": json.dumps(receipt) if results else None,
            "size": 10,
            "created_at": NOW,
            "settled_at": NOW if status == "sent" else None,
            **columns,
        }
        seq = self.insert("messages", **values)
        body: dict[str, Any] = {"to": [[ANN, ""], [BOB, ""]], "subject": id_, "text": "x"}
        body["attachments"] = [{"filename": "f"}]
        content = b"content"
        digest = hashlib.sha256(content).digest()
        if channel == "sms":
            body = {"to": [NUMBER], "body": "x"}
        self.insert("bodies", seq=seq, body=json.dumps(body))
        self.connection.execute("INSERT OR IGNORE INTO files VALUES (?, ?)", (digest, content))
        self.insert("attached", seq=seq, number=0, hash=digest)
        whose = {} if self._version < 4 else {"channel": channel, "account": "a0", "kind": "own"}
        self.insert("handles", handle=f"p-{id_}", seq=seq, **whose)
        self.insert("keys", tenant="", key=f"k-{id_}", seq=seq, fingerprint=b"\0", accepted_as=status)
        return seq

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
    health = json.dumps({old.word(name): value for name, value in HEALTH.items()})
    old.insert("lanes", lane="a0/email", paced_until=NOW, health=health)
    old.insert("lanes", lane="a1/email")
    old.insert("workers", name="old", beats=3)
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


@pytest.mark.parametrize("version", range(1, 4))
async def test_reports_that_did_not_count_in_an_earlier_version_count_now(
    make_outbox: MakeOutbox, stage: ModuleType, tmp_path: Path, version: int
) -> None:
    old = OldFile(tmp_path / "outbox.db", version)
    results = [{"address": NUMBER, "outcome": "unknown"}]
    tried = {"account": "a0", "provider": "stage", "outcome": "unknown", "started_at": NOW, "duration": 1.0}
    for id_, status in (("doubted", "in_doubt"), ("repeated", "retrying"), ("asked", "in_doubt")):
        receipt = {"id": id_, "channel": "sms", "status": status, "account": "a0", "recipients": results}
        columns: dict[str, Any] = {"channel": "sms", "lane": "a0/sms", "attempts": 1, "due_at": NOW + 10}
        receipt["attempts"] = [{**tried, "recipients": [NUMBER]}]
        seq = old.message(id_, status, receipt=json.dumps(receipt), **columns)
        if id_ != "asked":
            old.event("delivered", seq, provider_message_id=f"p-{id_}")
    old.message("shared", "sent", channel="sms", lane="a0/sms")
    old.connection.execute(f"UPDATE {old.word('handles')} SET {old.word('handle')} = 'p-1' WHERE seq > 2")
    old.event("delivered", provider_message_id="SM-new")
    old.event("inbound", provider_message_id="SM-in", sender=NUMBER)
    old.close()

    async def answer(message: Sms) -> Accepted:
        del message
        return Accepted(provider_message_id="SM-new")

    script = stage.Script(answer)
    async with make_outbox(script, on_unknown="retry") as post:
        [new] = await post.outbox.add([Sms(to=NUMBER, body="new")])
        assert isinstance(new, EnqueueResult)
        await post.work()
        ended = {id_: (await post.outbox.get(id_)).receipt.status for id_ in ("doubted", "repeated", new.receipt.id)}
        assert ended == dict.fromkeys(ended, "delivered")
        assert [message.body for message in script.messages] == ["new"], "and nothing of it was sent again"
        late = {"type": "bounced", "channel": "sms", "provider": "stage", "account": "a0", "occurred_at": NOW}
        assert await post.outbox.record(Event.model_validate({**late, "provider_message_id": "p-1"})) is None
        assert await post.store.forget_orphans(NOW + 1e9, 10) == 1, "the bounce that nobody can place; not what came in"


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


@pytest.mark.parametrize("version", range(2, VERSION))
async def test_whom_an_earlier_version_kept_messages_from_is_still_kept_from_them(
    make_outbox: MakeOutbox, tmp_path: Path, version: int
) -> None:
    old = OldFile(tmp_path / "outbox.db", version)
    rows = [(ANN, "stopped", 0), (BOB, "bounced", 0), ("eve@example.org", "manual", 1)]
    old.connection.executemany("INSERT INTO suppressions VALUES ('email', ?, '', ?, 'x', 1.0, ?)", rows)
    old.close()
    async with make_outbox() as post:
        held = {entry.address: entry.reason for entry in await post.outbox.suppressions.list()}
    assert held == {ANN: "stopped", BOB: "bounced"}
