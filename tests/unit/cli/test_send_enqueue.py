"""The ways into the outbox from a shell: `--enqueue`, `--required`, `--idempotency-key`, `send-many --enqueue`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from postroom.testing.http import Answer, HttpRecorder

if TYPE_CHECKING:
    from tests.conftest import CommandLine


SMS = ("send", "sms", "--to", "+15005550009", "--body", "Hey!")


async def listed(command: CommandLine) -> list[dict[str, Any]]:
    """What `outbox list` answers."""
    lines: list[dict[str, Any]] = (await command.beside("outbox", "list", "--json")).json
    return lines


async def test_an_enqueued_message_is_kept_and_nothing_is_sent(command: CommandLine, twilio: HttpRecorder) -> None:
    done = await command.beside(*SMS, "--enqueue")
    [line] = await listed(command)
    assert (done.code, done.out) == (
        0,
        f"queued: {line['id']} is in the outbox; `postroom worker` delivers what is there\n",
    )
    later = await command.beside(*SMS, "--enqueue", "--send-at", "2100-01-01", "--json")
    assert (later.json["status"], later.json["account"]) == ("scheduled", "texts")
    assert twilio.connections == 0


async def test_a_dry_run_enqueues_nothing(command: CommandLine, twilio: HttpRecorder, tmp_path: Path) -> None:
    done = await command.beside(*SMS, "--enqueue", "--required", "--dry-run", "--json")
    assert (done.code, done.json["dry_run"]) == (0, True)
    assert not (tmp_path / "postroom.db").exists()


async def test_what_can_never_be_sent_is_not_enqueued(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    done = await command.beside(*SMS, "--enqueue", "--provider", "nobody", "--json")
    assert (done.code, done.json["error"]) == (2, "provider_not_found")
    assert (await command.beside(*SMS, "--enqueue", "--expires-at", "2020-01-01")).code == 2
    assert not (tmp_path / "postroom.db").exists() or await listed(command) == []


async def test_a_required_message_is_sent_now_where_that_works(command: CommandLine, twilio: HttpRecorder) -> None:
    done = await command.beside(*SMS, "--required", "--json")
    assert (done.code, done.json["status"], done.json["provider_message_id"]) == (0, "sent", "SM1")
    assert [line["status"] for line in await listed(command)] == ["sent"]


async def test_a_required_message_stays_where_that_does_not_work(command: CommandLine, twilio: HttpRecorder) -> None:
    twilio.answer(Answer(503, {"code": 20503, "message": "unavailable"}))
    done = await command.beside(*SMS, "--required")
    assert done.code == 0, done.err
    assert done.out.startswith("retrying: ")
    assert "`postroom worker` delivers what is there" in done.out
    assert [line["status"] for line in await listed(command)] == ["retrying"]


async def test_a_key_sends_once_and_another_message_under_it_is_refused(
    command: CommandLine, twilio: HttpRecorder
) -> None:
    first = await command.beside(*SMS, "--idempotency-key", "order-7", "--json")
    again = await command.beside(*SMS, "--idempotency-key", "order-7", "--json")
    assert first.json["id"] == again.json["id"]
    assert len(twilio.requests) == 1
    other = await command.beside(*SMS[:-1], "Another", "--idempotency-key", "order-7", "--json")
    assert (other.code, other.json["error"]) == (1, "idempotency_conflict")


@pytest.fixture
def recipients(tmp_path: Path) -> str:
    """A file of five messages, the third of which cannot be sent."""
    rows = [{"to": f"+1500555000{number}", "body": f"Hello {number}"} for number in range(5)]
    rows[2]["provider"] = "nobody"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "rows.jsonl"


async def test_a_file_is_enqueued_row_by_row_and_once(
    command: CommandLine, twilio: HttpRecorder, recipients: str, tmp_path: Path
) -> None:
    done = await command.beside("send-many", recipients, "--enqueue", "--at-once", "2", "--json")
    assert done.code == 1
    assert {kind: done.json[kind] for kind in ("accepted", "failed", "unknown", "skipped")} == {
        "accepted": 4,
        "failed": 1,
        "unknown": 0,
        "skipped": 0,
    }
    assert [line["status"] for line in await listed(command)] == ["queued"] * 4
    results = [json.loads(line) for line in (tmp_path / "rows.jsonl.results.jsonl").read_text().splitlines()]
    kept = {result["id"] for result in results if result["state"] == "accepted"}
    assert kept == {line["id"] for line in await listed(command)}

    again = await command.beside("send-many", recipients, "--enqueue", "--json")
    assert (again.json["skipped"], again.json["accepted"]) == (5, 0)
    assert twilio.connections == 0
    await command.deliver()
    assert len(twilio.requests) == 4


async def test_an_outbox_that_takes_nothing_ends_the_run_and_no_row_is_in_doubt(
    command: CommandLine, twilio: HttpRecorder, recipients: str, tmp_path: Path
) -> None:
    (tmp_path / "postroom.db").write_text("no database at all" * 100)
    done = await command.beside("send-many", recipients, "--enqueue", "--at-once", "2", "--json")
    assert (done.code, done.json["error"]) == (1, "outbox_error")
    assert "name another file in [outbox] url" in done.json["message"]
    assert (done.json["failed"], done.json["unknown"]) == (2, 0)
    (tmp_path / "postroom.db").unlink()
    again = await command.beside("send-many", recipients, "--enqueue", "--retry-failed", "--json")
    assert (again.json["accepted"], again.json["failed"]) == (4, 1)
