"""`postroom outbox` as a process of its own: at a terminal, and until Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import CommandLine

MEMORY = """
[defaults]
email = "box"
[accounts.box]
provider = "memory"
from = "post@example.org"
"""


@pytest.fixture
def box(command: CommandLine) -> CommandLine:
    """The command line over an account that takes everything, and one message in the outbox."""
    command.configure(MEMORY)
    enqueue(command)
    return command


def enqueue(command: CommandLine) -> None:
    done = command("send", "email", "--to", "ann@example.org", "--text", "x", "--enqueue")
    assert done.code == 0, done.err


def started(command: CommandLine, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "postroom", "outbox", *arguments],
        cwd=command.folder,
        env={**command.environment, "TERM": "xterm"},
        stderr=subprocess.PIPE,
        **streams,
    )


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, "queued"), ("y", 0, "cancelled")])
def test_a_person_is_asked_before_many_are_changed(box: CommandLine, answer: str, code: int, left: str) -> None:
    ours, its = pty.openpty()
    with started(box, "cancel", "--channel", "email", stdin=its, stdout=subprocess.DEVNULL) as process:
        os.close(its)
        os.write(ours, f"{answer}\n".encode())
        _, said = process.communicate(timeout=100)
    os.close(ours)
    assert b"cancel 1 message? [y/N]" in said
    assert process.returncode == code
    assert [line["status"] for line in box("outbox", "list", "--json").json] == [left]


def test_watching_writes_a_line_for_each_change_and_ends_with_ctrl_c(box: CommandLine) -> None:
    with started(box, "watch", stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert b"workers=0 queued=1" in process.stdout.readline()
        enqueue(box)
        assert b"workers=0 queued=2" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == 0
        assert process.stderr.read() == b""


def test_watching_answers_in_lines_of_json(box: CommandLine) -> None:
    with started(box, "watch", "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["states"] == {"queued": 1}
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == 0


def test_watching_draws_on_a_terminal(box: CommandLine) -> None:
    ours, its = pty.openpty()
    with started(box, "watch", stdout=its) as process:
        os.close(its)
        seen = b""
        while b"workers" not in seen:
            assert select.select([ours], [], [], 90)[0], seen
            seen += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == 0
    os.close(ours)
    assert re.search(rb"queued\s+1", seen)
    assert re.search(rb"waiting for box/email\s+1", seen)
