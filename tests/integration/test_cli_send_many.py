from __future__ import annotations

import asyncio
import json
import signal
import sys

import pytest

from postroom.testing.http import Answer, Drop, Hang, HttpRecorder

YES = Answer(201, {"sid": "SM1", "status": "queued"})


@pytest.fixture
async def twilio(tmp_path):
    async with HttpRecorder() as server:
        server.answer_with(lambda _: YES)
        (tmp_path / "postroom.toml").write_text(
            f"""
            [accounts.texts]
            provider = "twilio"
            account_sid = "AC1"
            auth_token = "x"
            base_url = "{server.url}"
            from = "+15005550006"
            """
        )
        yield server


def write_rows(folder, count: int, name: str = "rows.jsonl") -> None:
    rows = [{"to": f"+1500555{number:04}", "body": f"row {number}"} for number in range(1, count + 1)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def results(folder, name: str = "rows.jsonl.results.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def bodies(server) -> list[str]:
    return [dict(request.form())["Body"] for request in server.requests]


async def test_every_row_is_sent_once_and_has_a_result(cli, twilio, tmp_path):
    write_rows(tmp_path, 20)
    done = await asyncio.to_thread(cli, "send-many", "rows.jsonl", "--json")

    assert done.code == 0
    assert (done.json["accepted"], done.json["failed"]) == (20, 0)
    assert sorted(bodies(twilio)) == sorted(f"row {number}" for number in range(1, 21))
    assert sorted(r["row"] for r in results(tmp_path) if r["state"] == "accepted") == list(range(1, 21))


async def test_a_second_run_sends_nothing_again(cli, twilio, tmp_path):
    write_rows(tmp_path, 3)
    await asyncio.to_thread(cli, "send-many", "rows.jsonl")
    again = await asyncio.to_thread(cli, "send-many", "rows.jsonl", "--json")

    assert (again.code, again.json["skipped"]) == (0, 3)
    assert len(twilio.requests) == 3


async def test_bad_rows_are_named_and_do_not_stop_the_others(cli, twilio, tmp_path):
    (tmp_path / "rows.jsonl").write_text(
        '{"to": "+15005550001", "body": "one"}\n{nonsense\n{"to": "12", "body": "x"}\n[]\n'
        '{"to": "+15005550002", "body": "two"}\n'
    )
    done = await asyncio.to_thread(cli, "send-many", "rows.jsonl", "--json")

    assert (done.code, done.json["accepted"], done.json["failed"]) == (1, 2, 3)
    for number in (2, 3, 4):
        assert f"row {number}:" in done.err
    assert sorted(bodies(twilio)) == ["one", "two"]


async def test_csv_rows_take_lists_separated_by_semicolons(cli, twilio, tmp_path):
    (tmp_path / "rows.csv").write_text("to,body\n+15005550001;+15005550002,hello\n")
    done = await asyncio.to_thread(cli, "send-many", "rows.csv", "--json")

    assert done.json["accepted"] == 1
    assert sorted(dict(r.form())["To"] for r in twilio.requests) == ["+15005550001", "+15005550002"]


async def test_unknown_rows_are_left_alone_until_asked_for(cli, twilio, tmp_path):
    write_rows(tmp_path, 1)
    twilio.answer(Drop("request"), YES)
    first = await asyncio.to_thread(cli, "send-many", "rows.jsonl", "--json")
    second = await asyncio.to_thread(cli, "send-many", "rows.jsonl", "--json")
    assert (first.code, second.code, len(twilio.requests)) == (3, 3, 1)
    assert "--retry-unknown" in second.err

    third = await asyncio.to_thread(cli, "send-many", "rows.jsonl", "--json", "--retry-unknown")
    assert (third.code, len(twilio.requests)) == (0, 2)


async def test_failed_rows_are_left_alone_until_asked_for(cli, twilio, tmp_path):
    write_rows(tmp_path, 1)
    twilio.answer(Answer(400, {"code": 21211, "message": "invalid To"}), YES)
    first = await asyncio.to_thread(cli, "send-many", "rows.jsonl")
    second = await asyncio.to_thread(cli, "send-many", "rows.jsonl")
    assert (first.code, second.code, len(twilio.requests)) == (1, 1, 1)

    third = await asyncio.to_thread(cli, "send-many", "rows.jsonl", "--retry-failed")
    assert (third.code, len(twilio.requests)) == (0, 2)


async def test_a_changed_input_is_refused(cli, twilio, tmp_path):
    write_rows(tmp_path, 2)
    await asyncio.to_thread(cli, "send-many", "rows.jsonl")
    (tmp_path / "rows.jsonl").write_text('{"to": "+15005550001", "body": "something else"}\n')
    done = await asyncio.to_thread(cli, "send-many", "rows.jsonl")

    assert done.code == 2
    assert "row 1 is not the one" in done.err
    assert len(twilio.requests) == 2


async def test_a_killed_run_goes_on_without_a_second_copy(cli, twilio, tmp_path, clean_environment):
    write_rows(tmp_path, 60)
    twilio.answer(*[YES] * 20, Hang("request"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "postroom", "send-many", "rows.jsonl", "--at-once", "5"),
        cwd=tmp_path,
        env=clean_environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    await twilio.received(25)
    process.send_signal(signal.SIGKILL)
    await process.wait()

    twilio.answer(YES)
    done = await asyncio.to_thread(cli, "send-many", "rows.jsonl", "--json")

    sent = bodies(twilio)
    assert len(sent) == len(set(sent)) == 60
    assert done.code == 3
    assert done.json["unknown"] == 5
    assert done.json["accepted"] == 35


async def test_an_unreadable_file_and_an_unwritable_results_file_are_explained(cli, twilio, tmp_path):
    write_rows(tmp_path, 1)
    missing = await asyncio.to_thread(cli, "send-many", "nowhere.jsonl")
    unwritable = await asyncio.to_thread(cli, "send-many", "rows.jsonl", "--results", "no/such/folder.jsonl")

    assert (missing.code, unwritable.code) == (2, 2)
    assert "nowhere.jsonl" in missing.err
    assert "--results" in unwritable.err
