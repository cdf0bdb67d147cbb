"""The group `system`: tests of what pip cannot install, left out where it is not there; and the group `slow`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

# Where it is set, each of the hundreds of processes that tests start compiles every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

SLOW_FOLDERS = ("tests/acceptance/", "tests/integration/", "tests/packaging/", "tests/typing/")
SLOW_FIXTURES = {"site"}
"""Whose tests start processes: they are `slow`, as is what bears that mark itself."""

SERVED = "postgres"
"""What the tests are named for that need PostgreSQL's server: it is a process too."""


def listens(*ports: int) -> bool:
    for port in ports:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)):
                return False
    return True


def installed(*commands: str) -> bool:
    return all(shutil.which(command) for command in commands)


def may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return mounted.returncode == 0


def may_make_hosts() -> bool:
    if not installed("ip"):
        return False
    name = f"postroom-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return False
    link = ["ip", "link", "add", f"pr{os.getpid()}", "type", "veth", "peer", "name", "up", "netns", name]
    made = subprocess.run(link, capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", name], check=True)
    return made.returncode == 0


NEEDS: dict[str, tuple[str, Callable[[], bool]]] = {
    "postfix": ("Postfix, as root", lambda: os.geteuid() == 0 and installed("postfix", "saslpasswd2")),
    "mount": ("a full disk, as root", may_mount),
    "hosts": ("hosts on a network, as root", may_make_hosts),
    "setpriv": ("missing rights, as root", lambda: os.geteuid() != 0 or installed("setpriv")),
    "proc": ("the processes of Linux", lambda: Path("/proc/self/task").exists()),
    "git": ("a git checkout", lambda: installed("git") and Path(__file__).parents[1].joinpath(".git").exists()),
    "node": ("Node", lambda: installed("node")),
    "twilio": ("Twilio's contract", lambda: listens(4060)),
    "sendgrid": ("SendGrid's contract", lambda: listens(4061)),
    "vonage": ("Vonage's contracts", lambda: listens(4062, 4063)),
}
"""What `@pytest.mark.system(...)` may name: what it is to a reader, and whether it is there."""


@cache
def met(need: str) -> bool:
    return NEEDS[need][1]()


def unmet(item: pytest.Item) -> list[str]:
    return [need for mark in item.iter_markers("system") for need in mark.args if not met(need)]


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Twice the cores: half of the time tests wait for a disk, a clock or another process."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist takes it from there
    return 2 * (os.cpu_count() or 1)


def pytest_itemcollected(item: pytest.Item) -> None:
    fixtures = SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ()))
    if fixtures or item.nodeid.startswith(SLOW_FOLDERS) or SERVED in item.nodeid:
        item.add_marker("slow")


@pytest.hookimpl(trylast=True)  # after -m and -k, which may not have asked for them
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    without = [(item, unmet(item)) for item in items]
    config.stash[LEFT_OUT] = Counter(needs[0] for _, needs in without if needs)
    items[:] = longest_first([item for item, needs in without if not needs])
    config.hook.pytest_deselected(items=[item for item, needs in without if needs])


def longest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """Files with slow tests first, then those with most tests: a long one begun last has the machine to itself."""
    tests = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    return sorted(items, key=lambda item: (item.path not in slow, -tests[item.path]))


LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash.get(LEFT_OUT, {}))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Every worker has collected, and left out, the same."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[LEFT_OUT] = Counter(output.get("left_out", {}))  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash.get(LEFT_OUT, None):
        what = ", ".join(f"{count} of {NEEDS[need][0]}" for need, count in sorted(left_out.items()))
        terminalreporter.write_line(
            f"left out: {left_out.total()} system tests ({what}); `.ci/run` installs what they need"
        )
