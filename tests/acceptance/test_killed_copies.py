"""A copy of the outbox is killed (kill -9) after each of its transactions: every message leaves once, from one place.

POSTROOM_MESSAGES makes it a longer trial.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ordeal.configuration import smtp, written
from ordeal.processes import Crew
from ordeal.servers import MailServer
from tests.postgres_server import fresh_schema

from postroom import Attachment, Email, Postroom
from postroom.delivery.bulk import receipt_or_raise
from postroom.outbox.views import MessageFilter
from postroom.receipts import Status

if TYPE_CHECKING:
    from tests.conftest import CommandLine

MESSAGES = int(os.environ.get("POSTROOM_MESSAGES", "300"))
KILLED_AT = 60
"""Messages that have arrived when the worker is killed, which leaves some in its hands."""


def url(engine: str, folder: Path) -> str:
    return fresh_schema() if engine == "postgres" else f"sqlite:///{folder / f'{engine}.db'}"


async def enqueue(config: Path) -> dict[str, str]:
    """Accept messages, of which some share a file; return their ids by Message-ID."""
    file = Attachment(filename="terms.pdf", content=os.urandom(50_000))
    async with Postroom.from_config(config) as room:
        messages = [
            Email(to=f"n{number}@example.org", text="x", attachments=[file] * (number % 3 == 0))
            for number in range(MESSAGES)
        ]
        receipts = [receipt_or_raise(result) for result in await room.enqueue_many(messages)]
    return {receipt.message_id or "": receipt.id for receipt in receipts}


async def left(config: Path, mail: MailServer) -> None:
    """Have a worker killed in the middle of its work."""
    async with Crew(config) as crew:
        worker = await crew.worker()
        while len(mail.arrivals) < KILLED_AT:
            assert worker.code is None
            await asyncio.sleep(0.001)
        await worker.kill()


@pytest.mark.timeout(400)  # it starts some fifteen processes one after another
@pytest.mark.parametrize(("engine", "other"), [("sqlite", "postgres"), ("postgres", "sqlite")])
async def test_a_copy_that_is_killed_again_and_again_moves_every_message_once(
    command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, other: str
) -> None:
    here, there = url(engine, tmp_path), url(other, tmp_path)
    async with MailServer(delay=0.01) as mail:
        config = written(tmp_path, {"mail": smtp(mail, on_unknown="hold", concurrency=8)}, url=here, lease="1s")
        accepted = await enqueue(config)
        await left(config, mail)

        kills = 0
        while await is_killed(command, "outbox", "copy", "--to", there, "--at-once", str(MESSAGES // 3)):
            kills += 1
        async with command.running("worker", "--until-empty") as process:
            refused = await command.ended(process)
        assert refused.code == 1
        assert "this outbox was moved to" in refused.err
        moved = {"POSTROOM_OUTBOX__URL": there}
        async with command.running("worker", "--until-empty", env=moved) as process:
            assert (await command.ended(process)).code == 0

        monkeypatch.setenv("POSTROOM_OUTBOX__URL", there)
        async with Postroom.from_config(config) as room:
            states = {line.id: line.status for line in await room.outbox.list(MessageFilter(limit=10 * MESSAGES))}
        arrived = Counter(accepted[name] for name in mail.counts.elements())
    assert kills > 8
    assert states.keys() == {*accepted.values()}
    assert {*states.values()} <= {Status.SENT, Status.IN_DOUBT}
    assert {id_: count for id_, count in arrived.items() if count > 1} == {}
    assert {id_ for id_, status in states.items() if status is Status.SENT} <= arrived.keys()
    assert list(states.values()).count(Status.IN_DOUBT) <= 8


async def is_killed(command: CommandLine, *arguments: str) -> bool:
    """Run a command, and kill it at its first line of progress; False when it ends before."""
    async with command.running(*arguments) as process:
        assert process.stderr
        line = (await process.stderr.readline()).decode()
        if " of " in line:
            process.kill()
            await process.wait()
            return True
        done = await command.ended(process)
        assert done.code == 0, line + done.everything
        return False
