"""`postroom send-many`: every row once, and a result for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from postroom.testing.http import Answer, Drop, HttpRecorder

if TYPE_CHECKING:
    from tests.conftest import CommandLine


YES = Answer(201, {"sid": "SM1", "status": "queued"})


def write_rows(folder: Path, count: int, name: str = "rows.jsonl") -> None:
    rows = [{"to": f"+1500555{number:04}", "body": f"row {number}"} for number in range(1, count + 1)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def results(folder: Path, name: str = "rows.jsonl.results.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def bodies(server: HttpRecorder) -> list[str]:
    return [dict(request.form())["Body"] for request in server.requests]


async def test_every_row_is_sent_once_and_has_a_result(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    write_rows(tmp_path, 20)
    done = await command.beside("send-many", "rows.jsonl", "--json")

    assert done.code == 0
    assert (done.json["accepted"], done.json["failed"]) == (20, 0)
    assert sorted(bodies(twilio)) == sorted(f"row {number}" for number in range(1, 21))
    assert sorted(r["row"] for r in results(tmp_path) if r["state"] == "accepted") == list(range(1, 21))


async def test_a_second_run_sends_nothing_again(command: CommandLine, twilio: HttpRecorder, tmp_path: Path) -> None:
    write_rows(tmp_path, 3)
    await command.beside("send-many", "rows.jsonl")
    again = await command.beside("send-many", "rows.jsonl", "--json")

    assert (again.code, again.json["skipped"]) == (0, 3)
    assert len(twilio.requests) == 3


async def test_bad_rows_are_named_and_do_not_stop_the_others(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(
        '{"to": "+15005550001", "body": "one"}\n{nonsense\n{"to": "12", "body": "x"}\n[]\n'
        '{"to": "+15005550002", "body": "two"}\n'
    )
    done = await command.beside("send-many", "rows.jsonl", "--json")

    assert (done.code, done.json["accepted"], done.json["failed"]) == (1, 2, 3)
    for number in (2, 3, 4):
        assert f"row {number} (line {number}):" in done.err
    assert sorted(bodies(twilio)) == ["one", "two"]


async def test_csv_rows_take_lists_separated_by_semicolons(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("to,body\n+15005550001;+15005550002,hello\n")
    done = await command.beside("send-many", "rows.csv", "--json")

    assert done.json["accepted"] == 1
    assert sorted(dict(r.form())["To"] for r in twilio.requests) == ["+15005550001", "+15005550002"]


async def test_unknown_rows_are_left_alone_until_asked_for(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    write_rows(tmp_path, 1)
    twilio.answer(Drop("request"), YES)
    first = await command.beside("send-many", "rows.jsonl", "--json")
    second = await command.beside("send-many", "rows.jsonl", "--json")
    assert (first.code, second.code, len(twilio.requests)) == (3, 3, 1)
    assert "--retry-unknown" in second.err

    third = await command.beside("send-many", "rows.jsonl", "--json", "--retry-unknown")
    assert (third.code, len(twilio.requests)) == (0, 2)


async def test_failed_rows_are_left_alone_until_asked_for(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    write_rows(tmp_path, 1)
    twilio.answer(Answer(400, {"code": 21211, "message": "invalid To"}), YES)
    first = await command.beside("send-many", "rows.jsonl")
    second = await command.beside("send-many", "rows.jsonl")
    assert (first.code, second.code, len(twilio.requests)) == (1, 1, 1)

    third = await command.beside("send-many", "rows.jsonl", "--retry-failed")
    assert (third.code, len(twilio.requests)) == (0, 2)


async def test_a_changed_input_is_refused(command: CommandLine, twilio: HttpRecorder, tmp_path: Path) -> None:
    write_rows(tmp_path, 2)
    await command.beside("send-many", "rows.jsonl")
    (tmp_path / "rows.jsonl").write_text('{"to": "+15005550001", "body": "something else"}\n')
    done = await command.beside("send-many", "rows.jsonl")

    assert done.code == 2
    assert "row 1 (line 1) is not the one" in done.err
    assert len(twilio.requests) == 2


async def test_an_unreadable_file_and_an_unwritable_results_file_are_explained(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    write_rows(tmp_path, 1)
    missing = await command.beside("send-many", "nowhere.jsonl")
    unwritable = await command.beside("send-many", "rows.jsonl", "--results", "no/such/folder.jsonl")

    assert (missing.code, unwritable.code) == (2, 2)
    assert "nowhere.jsonl" in missing.err
    assert "--results" in unwritable.err


async def test_what_a_crash_cut_short_hides_no_later_mark(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    """A torn line must not swallow the one after it: that may be the mark of a row that is on its way."""
    write_rows(tmp_path, 1)
    (tmp_path / "rows.jsonl.results.jsonl").write_text('{"row": 1, "fing')
    twilio.answer(Drop("request"))
    first = await command.beside("send-many", "rows.jsonl")
    written = (tmp_path / "rows.jsonl.results.jsonl").read_text().splitlines()
    assert first.code == 3
    assert json.loads(written[1])["state"] == "begun"

    (tmp_path / "rows.jsonl.results.jsonl").write_text("\n".join(written[:2]) + "\n")  # as if killed before the result
    second = await command.beside("send-many", "rows.jsonl")
    assert (second.code, len(twilio.requests)) == (3, 1)


@pytest.mark.parametrize("content", ['{"to": "a@example.org"}\n', "to,body\n", "# notes", "[1]\n"])
async def test_a_file_that_holds_no_results_is_not_written_to(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path, content: str
) -> None:
    write_rows(tmp_path, 1)
    (tmp_path / "other").write_text(content)
    done = await command.beside("send-many", "rows.jsonl", "--results", "other")

    assert done.code == 2
    assert "not a results file" in done.err
    assert (tmp_path / "other").read_text() == content
    assert twilio.requests == []


async def test_the_input_cannot_be_its_own_results_file(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    write_rows(tmp_path, 1)
    before = (tmp_path / "rows.jsonl").read_text()
    done = await command.beside("send-many", "rows.jsonl", "--results", "./rows.jsonl")

    assert (done.code, (tmp_path / "rows.jsonl").read_text()) == (2, before)
    assert "is the input" in done.err


BAD_ROWS = [
    b'{"to": "+15005550003", "body": "caf\xe9"}',
    b'{"to": "a@example.org", "text": "x", "attach": 5}',
    b'{"to": "a@example.org", "text": "x", "attach": ["rows.jsonl"], "attachments": 5}',
    b'{"to": "a@example.org", "text": "x", "attach": "nowhere.pdf"}',
    b'{"to": "a@example.org", "text": "\\ud800"}',
    b'{"channel": ["sms"], "to": "+15005550003"}',
    b'{"channel": "fax", "to": "+15005550003", "body": "x"}',
    b"[" * 100_000,
    b"null",
    b"\xff\xfe{",
]


@pytest.mark.parametrize("bad", BAD_ROWS, ids=lambda row: row[:60].decode("latin-1"))
async def test_no_row_is_so_bad_that_it_stops_the_others(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path, bad: bytes
) -> None:
    good = b'{"to": "+15005550001", "body": "one"}'
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + good + b"\n\n" + bad + b"\r\n" + good)
    done = await command.beside("send-many", "rows.jsonl", "--json")

    assert (done.code, done.json["accepted"], done.json["failed"]) == (1, 2, 1), done.everything
    assert done.err.startswith("row 2 (line 3): ")
    assert len(done.err.splitlines()) == 1
    (failed,) = [result for result in results(tmp_path) if result["state"] == "failed"]
    assert (failed["row"], failed["line"], failed["status"]) == (2, 3, "failed")


async def test_csv_cells_hold_objects_as_json_and_bad_cells_cost_their_row(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_bytes(
        b"\xef\xbb\xbfto,body,options,provider_options\r\n"
        b'+15005550001,one,"{""twilio_sid"": ""AC9"", ""twilio_auth_token"": ""s""}",\r\n'
        b"+15005550002,two,nonsense,\r\n"
        b"+15005550003,caf\xe9,,\r\n"
        b"+15005550004,four,,,,\r\n"
        b'+15005550005,"five\r\nlines",,"{""validity_period"": 60}"\r\n'
    )
    done = await command.beside("send-many", "rows.csv", "--json")

    assert (done.code, done.json["accepted"], done.json["failed"]) == (1, 2, 3), done.everything
    assert sorted(bodies(twilio)) == ["five\r\nlines", "one"]
    assert "/AC9/" in next(r.path for r in twilio.requests if b"one" in r.body)
    assert "row 2 (line 3): options: write it as a JSON object" in done.err
    assert "row 4 (line 5): has more columns than the header" in done.err


async def test_a_column_named_twice_is_refused(command: CommandLine, twilio: HttpRecorder, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("to,to,body\n+15005550001,+15005550002,x\n")
    done = await command.beside("send-many", "rows.csv")
    assert done.code == 2
    assert "'to' twice" in done.err
    assert twilio.requests == []


async def test_a_first_line_that_cannot_be_names_of_columns_is_refused(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text(f"to,body,{'x' * 10_000}\n+15005550001,x,y\n")
    done = await command.beside("send-many", "rows.csv")
    assert done.code == 2
    assert "names its columns" in done.err
    assert twilio.requests == []


async def test_a_failed_row_may_be_mended_and_retried(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    good = '{"to": "+15005550001", "body": "one"}\n'
    (tmp_path / "rows.jsonl").write_text(good + "{oops\n")
    await command.beside("send-many", "rows.jsonl")
    (tmp_path / "rows.jsonl").write_text(good + '{"to": "+15005550002", "body": "two"}\n')

    assert (await command.beside("send-many", "rows.jsonl")).code == 2
    assert (await command.beside("send-many", "rows.jsonl", "--retry-failed")).code == 0
    assert bodies(twilio) == ["one", "two"]


async def test_a_changed_row_anywhere_is_found_before_any_row_is_sent(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    write_rows(tmp_path, 3)
    await command.beside("send-many", "rows.jsonl")
    kept = results(tmp_path)
    (tmp_path / "rows.jsonl.results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in kept if r["row"] > 1))
    changed = (tmp_path / "rows.jsonl").read_text().replace("row 3", "other")
    (tmp_path / "rows.jsonl").write_text(changed)
    done = await command.beside("send-many", "rows.jsonl")

    assert done.code == 2
    assert "row 3 (line 3) is not the one" in done.err
    assert len(twilio.requests) == 3


async def test_a_changed_stream_stops_at_the_changed_row(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    write_rows(tmp_path, 3)
    rows = (tmp_path / "rows.jsonl").read_text()
    assert (await command.beside("send-many", "-", stdin=rows)).code == 0
    again = await command.beside("send-many", "-", stdin=rows.replace("row 2", "other"), env={})

    assert again.code == 2
    assert "row 2 (line 2) is not the one" in again.err
    assert (tmp_path / "results.jsonl").is_file()
    assert len(twilio.requests) == 3


async def test_the_mark_of_a_begun_row_has_the_id_that_its_result_has(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    write_rows(tmp_path, 1)
    await command.beside("send-many", "rows.jsonl")
    begun, ended = results(tmp_path)
    assert begun["id"] == ended["id"]
    assert (begun["state"], ended["state"]) == ("begun", "accepted")


async def test_a_mistyped_input_leaves_no_results_file(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    assert (await command.beside("send-many", "nowhere.jsonl")).code == 2
    assert not (tmp_path / "nowhere.jsonl.results.jsonl").exists()


async def test_credentials_of_rows_are_not_written_down(
    command: CommandLine, twilio: HttpRecorder, tmp_path: Path
) -> None:
    canary = "canary-secret-never-to-be-shown"
    options = {"twilio_sid": "AC2", "twilio_auth_token": canary}
    rows = [{"to": "+15005550001", "body": "x", "options": options}, {"to": "12", "body": "x", "options": options}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    twilio.answer(Answer(401, {"code": 20003, "message": f"bad {canary}"}))
    done = await command.beside("send-many", "rows.jsonl")

    assert done.code == 1
    assert canary not in done.everything + (tmp_path / "rows.jsonl.results.jsonl").read_text()
