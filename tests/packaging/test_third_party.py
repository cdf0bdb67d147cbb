"""A provider from outside this repository: installed from a wheel, picked by `provider`, nothing changed here."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from postroom.testing.http import Answer, Drop, HttpRecorder, Step

PLUGINS = Path(__file__).parents[1] / "plugins"

pytestmark = pytest.mark.timeout(300)


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


class Python:
    """A fresh environment with our wheels; third-party dependencies come from the environment of the tests."""

    def __init__(self, folder: Path, dist: Path) -> None:
        self.folder = folder
        wheels = [str(wheel) for wheel in dist.glob("postroom-*.whl")]
        for name in ("postroom-acme", "postroom-wreck"):
            run(
                sys.executable, "-m", "uv", "build", "--wheel", "--quiet", "--out-dir", str(folder), str(PLUGINS / name)
            )
        wheels += [str(wheel) for wheel in folder.glob("*.whl")]
        assert len(wheels) == 3
        run(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
        self.python = str(folder / "venv" / "bin" / "python")
        run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--python", self.python, *wheels)
        site = Path(next((folder / "venv").glob("lib/python*/site-packages")))
        (site / "dependencies-of-the-tests.pth").write_text(sysconfig.get_path("purelib") + "\n")

    async def __call__(self, *arguments: str, env: dict[str, str] | None = None) -> Any:
        """Run it, and return the JSON of the last line that it prints."""
        surroundings = {k: v for k, v in os.environ.items() if not k.startswith(("POSTROOM_", "PYTHON"))}
        process = await asyncio.create_subprocess_exec(
            self.python,
            *arguments,
            env={**surroundings, **(env or {})},
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 200)
        assert process.returncode == 0, f"{out.decode()}\n{err.decode()}"
        return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Python:
    return Python(tmp_path_factory.mktemp("installed"), dist)


SEND = """
import asyncio, json, sys, postroom
from postroom import DeliveryError, Postroom, Sms
async def main():
    async with Postroom.from_urls(sms=f"acme://:s3cret@?base_url={sys.argv[1]}&from=Acme") as room:
        try:
            receipt = await room.send(Sms(to="+442079460958", body="hello", provider="acme"))
            error = None
        except DeliveryError as failure:
            receipt, error = failure.receipt, str(failure)
    print(json.dumps({"home": postroom.__file__, "receipt": receipt.model_dump(mode="json"), "error": error}))
asyncio.run(main())
"""


async def test_it_sends_when_a_message_names_it(installed: Python) -> None:
    async with HttpRecorder() as server:
        server.answer(Answer(status=201, body={"id": "acme-1"}))
        answer = await installed("-c", SEND, server.url)
    assert answer["home"].startswith(str(installed.folder))
    assert answer["error"] is None
    receipt = answer["receipt"]
    assert (receipt["provider"], receipt["status"], receipt["provider_message_id"]) == ("acme", "sent", "acme-1")
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/sms")
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.json() == {"to": "+442079460958", "from": "Acme", "text": "hello", "media": []}


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        (Answer(status=401, body={"code": "E10", "message": "bad key s3cret"}), "permanent"),
        (Answer(status=429, body="", headers={"Retry-After": "7"}), "transient"),
        (Answer(status=503, body=""), "transient"),
        (Answer(status=200, body=""), "unknown"),
        (Drop("request"), "unknown"),
        (Drop("answer"), "unknown"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_its_failures_tell_the_truth_without_a_line_of_its_own(
    installed: Python, step: Step, outcome: str
) -> None:
    async with HttpRecorder() as server:
        server.answer(step)
        answer = await installed("-c", SEND, server.url)
    (attempt,) = answer["receipt"]["attempts"]
    assert attempt["outcome"] == outcome
    assert "s3cret" not in json.dumps(answer)
    assert len(server.requests) == 1


async def test_a_wrecked_neighbour_is_listed_with_its_cause(installed: Python) -> None:
    answer = await installed(
        "-c",
        """
import json, logging
logging.disable()
from postroom.registry.registry import Registry
print(json.dumps({i.name: [i.distribution, i.version, str(i.error or "")] for i in Registry().describe()}))
""",
    )
    assert answer["acme"] == ["postroom-acme", "1.2.3", ""]
    assert answer["memory"][2] == ""
    distribution, _, error = answer["wreck"]
    assert distribution == "postroom-wreck"
    assert "a_library_that_went_away" in error


async def test_its_own_environment_variable_is_enough(installed: Python) -> None:
    async with HttpRecorder() as server:
        server.answer(Answer(status=201, body={"id": "acme-2"}))
        code = SEND.replace(
            'Postroom.from_urls(sms=f"acme://:s3cret@?base_url={sys.argv[1]}&from=Acme")', "Postroom.from_config()"
        )
        env = {
            "POSTROOM_ACCOUNTS__ACME__PROVIDER": "acme",
            "POSTROOM_ACCOUNTS__ACME__BASE_URL": server.url,
            "POSTROOM_ACCOUNTS__ACME__API_KEY": "1234567890",
        }
        answer = await installed("-c", code, env=env)
    assert answer["receipt"]["status"] == "sent"
    assert server.requests[0].headers["authorization"] == "Bearer 1234567890"


async def test_the_command_line_sends_through_it(installed: Python) -> None:
    async with HttpRecorder() as server:
        server.answer(Answer(status=201, body={"id": "acme-3"}))
        env = {
            "POSTROOM_ACCOUNTS__MINE__PROVIDER": "acme",
            "POSTROOM_ACCOUNTS__MINE__BASE_URL": server.url,
            "POSTROOM_ACCOUNTS__MINE__API_KEY": "k",
        }
        answer = await installed(
            "-m",
            "postroom",
            "send",
            "sms",
            "--provider",
            "acme",
            "--to",
            "+442079460958",
            "--body",
            "hello",
            "--json",
            env=env,
        )
    assert (answer["provider"], answer["account"], answer["provider_message_id"]) == ("acme", "mine", "acme-3")
    assert len(server.requests) == 1
