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
from postroom.outbox.sqlite.schema import APPLICATION_ID, STEPS

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


class OldFile:
    """The database as the first steps of the schema made it, filled with their words."""

    def __init__(self, path: Path, version: int) -> None:
        self.connection = sqlite3.connect(path)
        self.connection.executescript("".join(STEPS[:version]))
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


@pytest.mark.parametrize("version", range(1, len(STEPS)))
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
        assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
