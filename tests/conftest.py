"""What the core's tests share: a stage to script providers on, distributions made of plain folders, clean surroundings."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any, Self

import pytest

from postroom.testing.http import Answer, HttpRecorder
from postroom.testing.smtp import SmtpRecorder

PLUGINS = Path(__file__).parent / "plugins"
ROOT = Path(__file__).parent.parent

collect_ignore = ["plugins"]
"""Distributions that tests install; test_authors_example.py runs the tests of the one that has some."""


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_reaches_processes() -> Iterator[None]:
    """A suite that is started in the background ignores Ctrl-C, and so would every process it starts."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def plain_pytest_in_processes() -> Iterator[None]:
    """Trials in a pytest of their own import none of our tools that plug into it, which takes longer than they do."""
    ours = ("schemathesis", "hypothesispytest", "anyio", "xdist", "xdist.looponfail")
    before = os.environ.get("PYTEST_ADDOPTS", "")
    os.environ["PYTEST_ADDOPTS"] = " ".join([before, *(f"-p no:{name}" for name in ours)])
    yield
    os.environ["PYTEST_ADDOPTS"] = before


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `postroom_stage`, with its providers and extensions installed for this test."""
    monkeypatch.syspath_prepend(str(PLUGINS / "postroom-stage"))
    module = importlib.import_module("postroom_stage")
    module.LOG.clear()
    module.VETO.clear()
    module.TRANSFORM.clear()
    module.STAGE.__init__()
    return module


@pytest.fixture
def bare_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No POSTROOM_ variable and an empty working directory, which is returned."""
    for name in [name for name in os.environ if name.startswith("POSTROOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Site:
    """A folder on a subprocess's path, where distributions are laid out as an installer would."""

    folder: Path

    def add(
        self,
        name: str,
        *,
        providers: dict[str, str] | None = None,
        extensions: dict[str, str] | None = None,
        modules: dict[str, str] | None = None,
        metadata: bool = True,
        raw_entry_points: str | None = None,
    ) -> Self:
        """Lay a distribution out: its entry points, and its modules by name."""
        info = self.folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        groups = {"postroom": providers or {}, "postroom.extensions": extensions or {}}
        lines = []
        for group, entries in groups.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
        (info / "entry_points.txt").write_text(raw_entry_points or "\n".join(lines) + "\n")
        for module, text in (modules or {}).items():
            (self.folder / f"{module}.py").write_text(dedent(text))
        return self

    def python(
        self, code: str, *, env: dict[str, str] | None = None, paths: Iterable[Path | str] = (), warnings: str = "error"
    ) -> Any:
        """Run `code` with this folder on the path; it prints one JSON value, which is returned."""
        surroundings = {k: v for k, v in os.environ.items() if not k.startswith("POSTROOM_")}
        surroundings["PYTHONPATH"] = os.pathsep.join([str(self.folder), *map(str, paths)])
        surroundings.update(env or {})
        done = subprocess.run(
            [sys.executable, "-W", warnings, "-c", dedent(code)],
            capture_output=True,
            text=True,
            env=surroundings,
            cwd=self.folder,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder)


@dataclass(frozen=True)
class Finished:
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def everything(self) -> str:
        return self.out + self.err


@pytest.fixture
def clean_environment() -> dict[str, str]:
    """The environment without anything that configures postroom or a provider."""
    prefixes = ("POSTROOM_", "TWILIO_", "VONAGE_", "SENDGRID_", "SMTP_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


@dataclass(frozen=True)
class CommandLine:
    """Runs `postroom …` in an empty folder, in a clean environment; `json`, `out` and `code` are what it answers."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Finished:
        """Run it in this process, which proves the same of a command as a process of its own, but at once."""
        from typer.testing import CliRunner

        from postroom.cli.app import build

        with contextlib.chdir(self.folder), pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "environ", {**self.environment, **(env or {})})
            done = CliRunner().invoke(build(), arguments, input=stdin, catch_exceptions=False, prog_name="postroom")
        return Finished(done.exit_code, done.stdout, done.stderr)

    async def beside(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Finished:
        """Run it while the servers of this loop go on."""
        return await asyncio.to_thread(self, *arguments, stdin=stdin, env=env)

    def process(
        self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None, timeout: float = 100
    ) -> Finished:
        """Run it as a process of its own."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "postroom", *arguments],
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            env={**self.environment, **(env or {})},
            timeout=timeout,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    async def deliver(self) -> None:
        """Do what `postroom worker --until-empty` does, whose signals are for a process of its own."""
        from postroom.client import Postroom

        with contextlib.chdir(self.folder), pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "environ", self.environment)
            async with Postroom.from_config("postroom.toml") as room:
                await room.work(until_empty=True)

    @contextlib.asynccontextmanager
    async def running(self, *arguments: str, env: dict[str, str] | None = None) -> AsyncIterator[Process]:
        """It under way as a process of its own, with pipes to read from; ended by force if it still runs."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "postroom", *arguments),
            cwd=self.folder,
            env={**self.environment, **(env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def interrupted(self, process: Process) -> Finished:
        """What it leaves behind on Ctrl-C."""
        process.send_signal(signal.SIGINT)
        return await self.ended(process)

    async def ended(self, process: Process) -> Finished:
        """What it leaves behind by itself."""
        out, err = await process.communicate()
        assert process.returncode is not None
        return Finished(process.returncode, out.decode(), err.decode())

    def configure(self, text: str) -> None:
        """Write the configuration that commands find."""
        (self.folder / "postroom.toml").write_text(text)

    def configure_more(self, text: str) -> None:
        """Add lines to it."""
        with (self.folder / "postroom.toml").open("a") as file:
            file.write(f"\n{text}\n")


@pytest.fixture
async def twilio(command: CommandLine) -> AsyncIterator[HttpRecorder]:
    """Twilio on loopback, which takes everything, configured as the only account; `configure_more` adds settings."""
    async with HttpRecorder() as server:
        server.answer_with(lambda _: Answer(201, {"sid": "SM1", "status": "queued", "num_segments": "1"}))
        command.configure(f"""
            [accounts.texts]
            provider = "twilio"
            account_sid = "AC00000000000000000000000000000001"
            auth_token = "canary-secret-never-to-be-shown"
            base_url = "{server.url}"
            from = "+15005550006"
            """)
        yield server


@pytest.fixture
async def smtp(command: CommandLine) -> AsyncIterator[SmtpRecorder]:
    """A mail server on loopback, configured as the only account."""
    async with SmtpRecorder() as server:
        command.configure(f"""
            [accounts.main]
            provider = "smtp"
            host = "127.0.0.1"
            port = {server.port}
            tls = "none"
            from = "Post Room <post@example.org>"
            """)
        yield server


@pytest.fixture
def command(tmp_path: Path, clean_environment: dict[str, str]) -> CommandLine:
    """The command line, in this process."""
    return CommandLine(tmp_path, clean_environment)


@pytest.fixture
def cli(command: CommandLine) -> Callable[..., Finished]:
    """The command line, as a process of its own."""
    return command.process
