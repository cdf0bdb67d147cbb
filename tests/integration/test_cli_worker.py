"""`postroom worker`: a process of its own, with real signals."""

from __future__ import annotations

from pathlib import Path
import asyncio
import signal
import sys
from contextlib import asynccontextmanager

import pytest

from postroom.testing.http import Answer, Hang, HttpRecorder

TAKEN = Answer(201, {"sid": "SM1", "status": "queued", "num_segments": "1"})
SMS = ("send", "sms", "--to", "+15005550009", "--body", "Hey!", "--enqueue")


@pytest.fixture
async def twilio(tmp_path: Path):
    """A recorder that takes everything, configured as the only account, one message at a time."""
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
            concurrency = 1
            """
        )
        yield server


async def in_thread(cli, *arguments):
    """Run the command line while the servers of this loop go on."""
    return await asyncio.to_thread(cli, *arguments)


@asynccontextmanager
async def worker_in(folder, environment, *arguments):
    """A worker that has said that it delivers; ended by force if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "postroom", "worker", *arguments),
        cwd=folder,
        env=environment,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        assert b"delivering what is in postroom.db" in await process.stderr.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def statuses(cli):
    lines = (await in_thread(cli, "outbox", "list", "--json")).json
    return sorted(line["status"] for line in lines)


async def test_until_empty_delivers_what_is_due_and_ends(cli, twilio) -> None:
    for _ in range(3):
        assert (await in_thread(cli, *SMS)).code == 0
    done = await in_thread(cli, "worker", "--until-empty")
    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines() == ["delivering what is in postroom.db, until nothing is due", "ended; left: nothing"]
    assert len(twilio.requests) == 3
    assert await statuses(cli) == ["sent"] * 3


async def test_a_worker_of_another_process_is_awake_at_once(cli, twilio, tmp_path: Path, clean_environment) -> None:
    async with worker_in(tmp_path, clean_environment) as process:
        assert (await in_thread(cli, *SMS)).code == 0
        await twilio.received(1)
        process.send_signal(signal.SIGTERM)
        await process.wait()
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_what_is_under_way_end_and_leaves_the_rest_for_others(
    cli, twilio, tmp_path: Path, clean_environment, number
) -> None:

    twilio.answer(Answer(201, {"sid": "SM1", "status": "queued"}, delay=1.0))
    for _ in range(3):
        assert (await in_thread(cli, *SMS)).code == 0
    async with worker_in(tmp_path, clean_environment) as process:
        await twilio.received(1)
        process.send_signal(number)
        _, said = await process.communicate()
    assert process.returncode == 0
    assert b"stopping once what is under way has ended" in said
    assert b"ended; left: 2 queued" in said
    assert await statuses(cli) == ["queued", "queued", "sent"]
    assert len(twilio.requests) == 1


async def test_a_second_signal_ends_it_at_once(cli, twilio, tmp_path: Path, clean_environment) -> None:
    twilio.answer(Hang("request"))
    assert (await in_thread(cli, *SMS)).code == 0
    async with worker_in(tmp_path, clean_environment) as process:
        await twilio.received(1)
        process.send_signal(signal.SIGTERM)
        assert b"stopping" in await process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
    assert await statuses(cli) == ["sending"]


async def test_what_may_have_been_handed_over_by_a_killed_worker_is_in_doubt(
    cli, twilio, tmp_path: Path, clean_environment
) -> None:
    configuration = tmp_path / "postroom.toml"
    configuration.write_text(configuration.read_text() + "\n[outbox]\nlease = 1\n")
    twilio.answer(Hang("request"))
    assert (await in_thread(cli, *SMS)).code == 0
    async with worker_in(tmp_path, clean_environment) as process:
        await twilio.received(1)
        process.kill()
    twilio.answer(Answer(404, {"code": 20404, "message": "not found"}))
    async with worker_in(tmp_path, clean_environment):
        while await statuses(cli) == ["sending"]:
            await asyncio.sleep(0.2)
    assert await statuses(cli) == ["in_doubt"]
    posted = [request for request in twilio.requests if request.method == "POST"]
    assert len(posted) == 1


UNUSABLE = {
    "missing/postroom.db": "its folder does not exist; make it",
    "text.db": "not a database; name another file in [outbox] url",
    "folder.db": "unable to open",
}


@pytest.mark.parametrize("file", UNUSABLE)
def test_an_outbox_that_cannot_be_used_ends_it_with_what_to_do(cli, tmp_path: Path, file) -> None:
    (tmp_path / "text.db").write_text("no database at all, but a text of some length" * 100)
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "postroom.toml").write_text(f'[accounts.m]\nprovider = "memory"\n[outbox]\nurl = "sqlite:///{file}"\n')
    for arguments in (("worker", "--until-empty"), ("send", "sms", "--to", "+15005550009", "--body", "x", "--enqueue")):
        done = cli(*arguments)
        assert done.code == 1, done.err
        assert UNUSABLE[file] in done.err
        assert "Traceback" not in done.err


def test_an_engine_that_is_not_there_is_refused_with_what_to_write(cli, tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text('[outbox]\nurl = "mysql://host/db"\n')
    done = cli("worker", "--until-empty")
    assert done.code == 2
    assert done.err.startswith("error: outbox.url: must look like sqlite:///postroom.db")
