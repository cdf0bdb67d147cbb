"""A file that another program keeps locked, a disk that is full: 503 in time, on every path, and nothing half done."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import GatewayProcess, Reply, ServeProcess

CONFIG = """
[accounts.box]
provider = "memory"
from = "desk@example.org"
[gateway]
rate_limit = []
"""


def one_email(text: str = "Hi") -> dict[str, Any]:
    return {"to": [{"email": "john@example.com"}], "subject": "Hello", "text": text}


def stored(gateway: GatewayProcess) -> set[str]:
    with closing(sqlite3.connect(gateway.folder / "postroom.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {id_ for (id_,) in connection.execute("SELECT id FROM messages")}


def accepted(reply: Reply) -> str:
    assert reply.status == 202, reply.body
    return str(reply.json["id"])


def unavailable(reply: Reply) -> bool:
    return reply.status == 503 and int(reply.headers["Retry-After"]) > 0


@pytest.mark.parametrize("arguments", [("--no-worker",), ()], ids=["no worker", "its own worker"])
def test_a_file_that_another_program_keeps_locked_is_503_as_long_as_it_does(
    serve_process: ServeProcess, arguments: tuple[str, ...]
) -> None:
    gateway = serve_process(CONFIG, *arguments)
    before = accepted(gateway.post("/v1/communicate/email", one_email()))
    with closing(sqlite3.connect(gateway.folder / "postroom.db", isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout = 60000")
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(11) as callers:
            writes = [
                *(callers.submit(gateway.post, "/v1/communicate/email", one_email()) for _ in range(10)),
                callers.submit(gateway.post, f"/v1/messages/{before}/cancel", {}),
            ]
            replies = [write.result() for write in writes]
        assert [unavailable(reply) for reply in replies] == [True] * 11, [reply.body for reply in replies]
        assert gateway.get(f"/v1/messages/{before}").status == 200, "who only reads waits for nobody"
        other.execute("ROLLBACK")
    after = accepted(gateway.post("/v1/communicate/email", one_email()))
    assert stored(gateway) == {before, after}, "what was refused did not come in afterwards"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # the service still logs there until its module ends


@pytest.mark.system("mount")
def test_a_full_disk_is_503_and_keeps_what_was_accepted(serve_process: ServeProcess, small_disk: Path) -> None:
    gateway = serve_process(CONFIG, "--no-worker", folder=small_disk)
    ids: set[str] = set()
    while (reply := gateway.post("/v1/communicate/email", one_email("x" * 20_000))).status == 202:
        ids.add(accepted(reply))
    assert unavailable(reply), reply.body
    assert gateway.get("/readyz").status == 503
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    ids.add(accepted(gateway.post("/v1/communicate/email", one_email())))
    assert gateway.get("/readyz").status == 200
    assert stored(gateway) == ids
