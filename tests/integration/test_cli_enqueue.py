"""The ways into the outbox from a shell: `--enqueue`, `--required`, `--idempotency-key`, `send-many --enqueue`."""

from __future__ import annotations

from pathlib import Path
import asyncio
import json
import os
import signal
import sys

import pytest

from postroom.testing.http import Answer, Hang, HttpRecorder

TAKEN = Answer(201, {"sid": "SM1", "status": "queued", "num_segments": "1"})
SMS = ("send", "sms", "--to", "+15005550009", "--body", "Hey!")


@pytest.fixture
async def twilio(tmp_path: Path):
    async with HttpRecorder() as server:
        server.answer_with(lambda _: TAKEN)
        (tmp_path / "postroom.toml").write_text(
            f"""
            [accounts.texts]
            provider = "twilio"
            account_sid = "AC00000000000000000000000000000001"
            auth_token = "secret"
            base_url = "{server.url}"
            from = "+15005550006"
            """
        )
        yield server


async def run(cli, *arguments, **more):
    """Run the command line while the servers of this loop go on."""
    return await asyncio.to_thread(cli, *arguments, **more)


async def listed(cli):
    return (await run(cli, "outbox", "list", "--json")).json


async def test_an_enqueued_message_is_kept_and_nothing_is_sent(cli, twilio) -> None:
    done = await run(cli, *SMS, "--enqueue")
    [line] = await listed(cli)
    assert (done.code, done.out) == (
        0,
        f"queued: {line['id']} is in the outbox; `postroom worker` delivers what is there\n",
    )
    later = await run(cli, *SMS, "--enqueue", "--send-at", "2100-01-01", "--json")
    assert (later.json["status"], later.json["account"]) == ("scheduled", "texts")
    assert twilio.connections == 0


async def test_a_dry_run_enqueues_nothing(cli, twilio, tmp_path: Path) -> None:
    done = await run(cli, *SMS, "--enqueue", "--required", "--dry-run", "--json")
    assert (done.code, done.json["dry_run"]) == (0, True)
    assert not (tmp_path / "postroom.db").exists()


async def test_what_can_never_be_sent_is_not_enqueued(cli, twilio, tmp_path: Path) -> None:
    done = await run(cli, *SMS, "--enqueue", "--provider", "nobody", "--json")
    assert (done.code, done.json["error"]) == (2, "provider_not_found")
    assert (await run(cli, *SMS, "--enqueue", "--expires-at", "2020-01-01")).code == 2
    assert not (tmp_path / "postroom.db").exists() or await listed(cli) == []


async def test_a_required_message_is_sent_now_where_that_works(cli, twilio) -> None:
    done = await run(cli, *SMS, "--required", "--json")
    assert (done.code, done.json["status"], done.json["provider_message_id"]) == (0, "sent", "SM1")
    assert [line["status"] for line in await listed(cli)] == ["sent"]


async def test_a_required_message_stays_where_that_does_not_work(cli, twilio) -> None:
    twilio.answer(Answer(503, {"code": 20503, "message": "unavailable"}))
    done = await run(cli, *SMS, "--required")
    assert done.code == 0, done.err
    assert done.out.startswith("retrying: ")
    assert "`postroom worker` delivers what is there" in done.out
    assert [line["status"] for line in await listed(cli)] == ["retrying"]


async def test_a_key_sends_once_and_another_message_under_it_is_refused(cli, twilio) -> None:
    first = await run(cli, *SMS, "--idempotency-key", "order-7", "--json")
    again = await run(cli, *SMS, "--idempotency-key", "order-7", "--json")
    assert first.json["id"] == again.json["id"]
    assert len(twilio.requests) == 1
    other = await run(cli, *SMS[:-1], "Another", "--idempotency-key", "order-7", "--json")
    assert (other.code, other.json["error"]) == (1, "idempotency_conflict")


async def test_an_interrupted_required_message_is_named(twilio, tmp_path: Path, clean_environment, cli) -> None:
    twilio.answer(Hang("request"))
    configuration = tmp_path / "postroom.toml"
    configuration.write_text(configuration.read_text() + "\n[outbox]\ngrace = 1\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "postroom", *SMS, "--required"),
        cwd=tmp_path,
        env=clean_environment,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    await twilio.received(1)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    [line] = await listed(cli)
    assert process.returncode == 3, err.decode()
    assert f"postroom outbox show {line['id']}" in err.decode()
    assert "Traceback" not in err.decode()
    assert line["status"] == "in_doubt"


@pytest.fixture
def recipients(tmp_path: Path) -> str:
    """A file of five messages, the third of which cannot be sent."""
    rows = [{"to": f"+1500555000{number}", "body": f"Hello {number}"} for number in range(5)]
    rows[2]["provider"] = "nobody"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "rows.jsonl"


async def test_a_file_is_enqueued_row_by_row_and_once(cli, twilio, recipients, tmp_path: Path) -> None:
    done = await run(cli, "send-many", recipients, "--enqueue", "--at-once", "2", "--json")
    assert done.code == 1
    assert {kind: done.json[kind] for kind in ("accepted", "failed", "unknown", "skipped")} == {
        "accepted": 4,
        "failed": 1,
        "unknown": 0,
        "skipped": 0,
    }
    assert [line["status"] for line in await listed(cli)] == ["queued"] * 4
    results = [json.loads(line) for line in (tmp_path / "rows.jsonl.results.jsonl").read_text().splitlines()]
    kept = {result["id"] for result in results if result["state"] == "accepted"}
    assert kept == {line["id"] for line in await listed(cli)}

    again = await run(cli, "send-many", recipients, "--enqueue", "--json")
    assert (again.json["skipped"], again.json["accepted"]) == (5, 0)
    assert twilio.connections == 0
    await run(cli, "worker", "--until-empty")
    assert len(twilio.requests) == 4


async def test_an_outbox_that_takes_nothing_ends_the_run_and_no_row_is_in_doubt(
    cli, twilio, recipients, tmp_path: Path
) -> None:
    (tmp_path / "postroom.db").write_text("no database at all" * 100)
    done = await run(cli, "send-many", recipients, "--enqueue", "--at-once", "2", "--json")
    assert (done.code, done.json["error"]) == (1, "outbox_error")
    assert "name another file in [outbox] url" in done.json["message"]
    assert (done.json["failed"], done.json["unknown"]) == (2, 0)
    os.unlink(tmp_path / "postroom.db")
    again = await run(cli, "send-many", recipients, "--enqueue", "--retry-failed", "--json")
    assert (again.json["accepted"], again.json["failed"]) == (4, 1)
