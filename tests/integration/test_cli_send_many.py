"""`postroom send-many` as a process of its own: killed, interrupted, on a full disk."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postroom.testing.http import Answer, Hang, HttpRecorder

if TYPE_CHECKING:
    from tests.conftest import CommandLine, Finished

TAKEN = Answer(201, {"sid": "SM1", "status": "queued"})


def write_rows(folder: Path, count: int) -> None:
    rows = [{"to": f"+1500555{number:04}", "body": f"row {number}"} for number in range(1, count + 1)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl.results.jsonl").read_text().splitlines()]


def bodies(server: HttpRecorder) -> list[str]:
    return [dict(request.form())["Body"] for request in server.requests]


async def test_the_exit_code_is_that_of_the_worst_row(command: CommandLine, twilio: HttpRecorder) -> None:
    write_rows(command.folder, 2)
    twilio.answer(TAKEN, Answer(400, {"code": 21211, "message": "invalid To"}))
    done = await asyncio.to_thread(command.process, "send-many", "rows.jsonl")
    assert done.code == 1
    assert done.out == "1 accepted, 1 failed, 0 unknown, 0 skipped; results in rows.jsonl.results.jsonl\n"


async def test_a_killed_run_goes_on_without_a_second_copy(command: CommandLine, twilio: HttpRecorder) -> None:
    write_rows(command.folder, 60)
    twilio.answer(*[TAKEN] * 20, Hang("request"))
    async with command.running("send-many", "rows.jsonl", "--at-once", "5") as process:
        await twilio.received(25)
        process.kill()

    twilio.answer(TAKEN)
    done = await command.beside("send-many", "rows.jsonl", "--json")

    sent = bodies(twilio)
    assert len(sent) == len(set(sent)) == 60
    assert done.code == 3
    assert done.json["unknown"] == 5
    assert done.json["accepted"] == 35


async def test_two_runs_cannot_write_one_results_file(command: CommandLine, twilio: HttpRecorder) -> None:
    write_rows(command.folder, 1)
    twilio.answer(Hang("request"))
    async with command.running("send-many", "rows.jsonl"):
        await twilio.received(1)
        second = await command.beside("send-many", "rows.jsonl", "--retry-unknown")

    assert second.code == 2
    assert "another run is writing" in second.err
    assert len(twilio.requests) == 1


async def on_a_full_disk(command: CommandLine, *arguments: str) -> Finished:
    """Run where no file may be longer than 8 KiB."""
    # Measuring coverage writes a file of its own, which would not fit either.
    line = 'unset COVERAGE_PROCESS_START; ulimit -f 8; exec "$0" -m postroom send-many rows.jsonl "$@"'
    limited = ("bash", "-c", line, sys.executable, *arguments)
    process = await asyncio.create_subprocess_exec(
        *limited,
        cwd=command.folder,
        env=command.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    return await command.ended(process)


async def test_a_full_disk_stops_the_run_and_costs_no_mark(command: CommandLine, twilio: HttpRecorder) -> None:
    write_rows(command.folder, 60)
    done = await on_a_full_disk(command, "--at-once", "1", "--json")

    assert done.code == 1, done.err
    assert done.json["error"] == "results_file_error"
    assert "make room" in done.json["message"]
    assert "Traceback" not in done.err
    assert 0 < len(twilio.requests) < 60
    assert done.json["accepted"] == len(twilio.requests)


async def test_a_run_goes_on_after_a_full_disk_without_a_second_copy(
    command: CommandLine, twilio: HttpRecorder
) -> None:
    write_rows(command.folder, 60)
    await on_a_full_disk(command, "--at-once", "5")
    done = await command.beside("send-many", "rows.jsonl", "--json")

    sent = bodies(twilio)
    assert len(sent) == len(set(sent))
    assert len(sent) + done.json["unknown"] >= 60


async def test_interrupting_reports_what_was_under_way_as_unknown(command: CommandLine, twilio: HttpRecorder) -> None:
    write_rows(command.folder, 5)
    twilio.answer(TAKEN, Hang("request"))
    async with command.running("send-many", "rows.jsonl", "--at-once", "1", "--json") as process:
        await twilio.received(2)
        done = await command.interrupted(process)

    assert done.code == 3, done.err
    assert (done.json["accepted"], done.json["unknown"]) == (1, 1)
    assert "row 2 (line 2) was under way and may have been sent" in done.err

    twilio.answer(TAKEN)
    again = await command.beside("send-many", "rows.jsonl", "--json")
    assert (again.code, again.json["accepted"], again.json["unknown"]) == (3, 3, 1)
    assert sorted(bodies(twilio)) == [f"row {number}" for number in range(1, 6)]


async def test_at_once_bounds_what_is_under_way(command: CommandLine, twilio: HttpRecorder) -> None:
    write_rows(command.folder, 20)
    twilio.answer(Hang("request"))
    async with command.running("send-many", "rows.jsonl", "--at-once", "3"):
        await twilio.received(3)
        assert len(results(command.folder)) == 3
    assert len(twilio.requests) == 3
