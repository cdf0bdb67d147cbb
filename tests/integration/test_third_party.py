"""A provider from outside this repository: installed from a wheel, picked by `provider`, nothing changed here."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

from postroom.testing.http import Answer, Drop, HttpRecorder

ROOT = Path(__file__).parents[2]
PROJECTS = [ROOT, ROOT / "tests/plugins/postroom-acme", ROOT / "tests/plugins/postroom-wreck"]

pytestmark = pytest.mark.timeout(300)


def run(*command) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def build_wheel(project, folder) -> None:
    if find_spec("uv"):
        run(sys.executable, "-m", "uv", "build", "--wheel", "--no-sources", "--out-dir", str(folder), str(project))
    elif shutil.which("uv"):
        run("uv", "build", "--wheel", "--no-sources", "--out-dir", str(folder), str(project))
    else:
        run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), str(project))


class Installed:
    """A fresh environment with our wheels; third-party dependencies come from the environment of the tests."""

    def __init__(self, folder) -> None:
        self.folder = folder
        wheels = folder / "wheels"
        for project in PROJECTS:
            build_wheel(project, wheels)
        run(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
        self.python = str(folder / "venv" / "bin" / "python")
        built = [str(wheel) for wheel in wheels.glob("*.whl")]
        assert len(built) == len(PROJECTS)
        run(
            sys.executable,
            "-m",
            "pip",
            "--python",
            self.python,
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            *built,
        )
        site = Path(next((folder / "venv").glob("lib/python*/site-packages")))
        (site / "dependencies-of-the-tests.pth").write_text(sysconfig.get_path("purelib") + "\n")

    async def __call__(self, *arguments, env=None, code=0):
        surroundings = {k: v for k, v in os.environ.items() if not k.startswith(("POSTROOM_", "PYTHON"))}
        process = await asyncio.create_subprocess_exec(
            self.python,
            *arguments,
            env={**surroundings, **(env or {})},
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == code, f"{out.decode()}\n{err.decode()}"
        return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory):
    return Installed(tmp_path_factory.mktemp("installed"))


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


async def test_it_sends_when_a_message_names_it(installed) -> None:
    async with HttpRecorder() as server:
        server.answer(Answer(status=201, body={"id": "acme-1"}))
        told = await installed("-c", SEND, server.url)
    assert told["home"].startswith(str(installed.folder))
    assert told["error"] is None
    receipt = told["receipt"]
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
async def test_its_failures_tell_the_truth_without_a_line_of_its_own(installed, step, outcome) -> None:
    async with HttpRecorder() as server:
        server.answer(step)
        told = await installed("-c", SEND, server.url)
    (attempt,) = told["receipt"]["attempts"]
    assert attempt["outcome"] == outcome
    assert "s3cret" not in json.dumps(told)
    assert len(server.requests) == 1


async def test_a_wrecked_neighbour_is_listed_with_its_cause(installed) -> None:
    told = await installed(
        "-c",
        """
import json, logging
logging.disable()
from postroom.registry.registry import Registry
print(json.dumps({i.name: [i.distribution, i.version, str(i.error or "")] for i in Registry().describe()}))
""",
    )
    assert told["acme"] == ["postroom-acme", "1.2.3", ""]
    assert told["memory"][2] == ""
    distribution, _, error = told["wreck"]
    assert distribution == "postroom-wreck"
    assert "a_library_that_went_away" in error


async def test_its_own_environment_variable_is_enough(installed) -> None:
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
        told = await installed("-c", code, env=env)
    assert told["receipt"]["status"] == "sent"
    assert server.requests[0].headers["authorization"] == "Bearer 1234567890"


async def test_the_command_line_sends_through_it(installed) -> None:
    async with HttpRecorder() as server:
        server.answer(Answer(status=201, body={"id": "acme-3"}))
        env = {
            "POSTROOM_ACCOUNTS__MINE__PROVIDER": "acme",
            "POSTROOM_ACCOUNTS__MINE__BASE_URL": server.url,
            "POSTROOM_ACCOUNTS__MINE__API_KEY": "k",
        }
        told = await installed(
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
    assert (told["provider"], told["account"], told["provider_message_id"]) == ("acme", "mine", "acme-3")
    assert len(server.requests) == 1
