"""From an empty folder to a provider that sends, with nothing but the built wheels: the tutorial, walked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from postroom.testing.http import Answer, HttpRecorder

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "plugins" / "tutorial.md"
WALKED = re.compile(r"^<!-- walked by tests/packaging -->\n```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONFIGURATION = """
[defaults]
sms = "main"
[accounts.main]
provider = "acme"
api_key = "made-up-key"
from = "+442079460999"
base_url = "{url}"
"""

pytestmark = pytest.mark.timeout(300)


@dataclass
class Author:
    """An author's folder and environment; the checkout is out of sight."""

    folder: Path
    dist: Path

    @property
    def bin(self) -> Path:
        return self.folder / ".venv" / "bin"

    @property
    def surroundings(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("POSTROOM_", "PYTHON"))}
        return clean | {"PATH": f"{self.bin}{os.pathsep}{clean['PATH']}"}

    def walk(self, line: str, folder: Path) -> Path:
        """Run one line of the tutorial; return the folder one is in afterwards."""
        words = shlex.split(line)
        if words[0] == "cd":
            return folder / words[1]
        offline = ["--python", str(self.bin / "python"), "--find-links", str(self.dist)]
        offline += ["--constraints", str(ROOT / ".ci" / "constraints.txt")]
        programs = {"pip": [sys.executable, "-m", "uv", "pip"], "uv": [sys.executable, "-m", "uv"]}
        command = [*programs.get(words[0], [str(self.bin / words[0])]), *words[1:]]
        self.done(command + (offline if words[0] == "pip" else []), folder)
        return folder

    def done(self, command: list[str], folder: Path) -> str:
        run = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, env=self.surroundings, timeout=240, check=False
        )
        assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"
        return run.stdout


def walked_lines() -> list[str]:
    return [line for block in WALKED.findall(TUTORIAL.read_text()) for line in block.splitlines()]


@pytest.fixture(scope="module")
def author(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Author:
    """The tutorial done, line by line."""
    made = Author(tmp_path_factory.mktemp("author"), dist)
    made.done([sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, ".venv"], made.folder)
    folder = made.folder
    for line in walked_lines():
        folder = made.walk(line, folder)
    return made


class Acme:
    """Acme's API on loopback, in a thread of its own."""

    def __init__(self) -> None:
        self.server = HttpRecorder()
        self._started, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(90)
        return self

    def __exit__(self, *failure: object) -> None:
        self._ended.set()
        self._thread.join(90)

    def texts(self) -> list[str]:
        """The texts of what has come, once the first has."""
        asyncio.run_coroutine_threadsafe(self.server.received(1), self._loop).result(90)
        return [request.json()["text"] for request in self.server.requests]

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self.server:
            self.server.answer(Answer(200, {"id": "A1"}))
            self._started.set()
            await asyncio.to_thread(self._ended.wait)


@pytest.fixture
def acme(author: Author) -> Iterator[Acme]:
    """Acme's API, to which the author's configuration points."""
    with Acme() as api:
        (author.folder / "postroom.toml").write_text(CONFIGURATION.format(url=api.server.url))
        yield api


def test_the_tutorial_scaffolds_installs_tests_checks_and_builds() -> None:
    lines = walked_lines()
    for step in (
        "postroom new-provider acme",
        "pip install --group dev -e .",
        "pytest",
        "mypy src tests",
        "ruff check",
    ):
        assert any(line.startswith(step) for line in lines), step


def test_the_new_provider_is_listed_with_its_distribution_and_file(author: Author) -> None:
    listed = json.loads(author.done([str(author.bin / "postroom"), "providers", "--json"], author.folder))
    (acme,) = [provider for provider in listed if provider["name"] == "acme"]
    assert (acme["status"], acme["distribution"], acme["version"]) == ("loaded", "postroom-acme", "0.1.0")
    assert Path(acme["file"]).name == "__init__.py"
    assert "postroom_acme" in acme["file"]


def test_the_tutorials_wheel_holds_the_package_alone(author: Author) -> None:
    (wheel,) = (author.folder / "postroom-acme" / "dist").glob("*.whl")
    listed = author.done([str(author.bin / "python"), "-m", "zipfile", "-l", str(wheel)], author.folder)
    tops = {line.split("/")[0] for line in listed.splitlines()[1:]}
    assert tops == {"postroom_acme", "postroom_acme-0.1.0.dist-info"}


def test_the_library_sends_through_the_new_provider(author: Author, acme: Acme) -> None:
    code = (
        "from postroom import Sms, SyncPostroom\n"
        "with SyncPostroom.from_config() as room:\n"
        "    print(room.send(Sms(to='+442079460958', body='by library', provider='acme')).provider_message_id)"
    )
    assert author.done([str(author.bin / "python"), "-c", code], author.folder).strip() == "A1"
    assert acme.texts() == ["by library"]


def test_the_command_line_sends_through_the_new_provider(author: Author, acme: Acme) -> None:
    command = ["postroom", "send", "sms", "--provider", "acme", "--to", "+442079460958", "--body", "by hand", "--json"]
    answer = json.loads(author.done([str(author.bin / command[0]), *command[1:]], author.folder))
    assert (answer["status"], answer["provider"], answer["provider_message_id"]) == ("sent", "acme", "A1")
    assert acme.texts() == ["by hand"]


def test_the_gateway_sends_through_the_new_provider(author: Author, acme: Acme) -> None:
    author.walk("pip install 'postroom[gateway]'", author.folder)
    made = author.done([str(author.bin / "postroom"), "keys", "create", "--json"], author.folder)
    with gateway(author) as address:
        body = {"provider": "acme", "data": {"to": "+442079460958", "body": "by gateway"}}
        request = urllib.request.Request(
            f"{address}/v1/communicate/sms",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Auth-token": json.loads(made)["key"]},
        )
        with urllib.request.urlopen(request, timeout=90) as answered:
            assert answered.status == 202
        assert acme.texts() == ["by gateway"]


@contextlib.contextmanager
def gateway(author: Author) -> Iterator[str]:
    """`postroom serve` on a free port; its address."""
    process = subprocess.Popen(
        [author.bin / "postroom", "serve", "--port", "0"],
        cwd=author.folder,
        env=author.surroundings,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr
        try:
            lines: list[str] = []
            for line in process.stderr:
                lines.append(line)
                if found := re.search(r"listening on (http://\S+)", line):
                    yield found[1]
                    break
            else:
                pytest.fail(f"the service did not start: {''.join(lines)}")
        finally:
            process.terminate()
            process.communicate(timeout=90)
