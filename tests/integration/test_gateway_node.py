"""A client in JavaScript, with Node's own `fetch`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import ServeGateway


CLIENT = Path(__file__).with_name("gateway_client.mjs")
CONFIG = """
[accounts.box]
provider = "memory"
from = "desk@example.org"
[gateway]
rate_limit = "3/3s"
"""


@pytest.mark.system("node")
def test_a_client_in_javascript_sends_is_limited_waits_and_gets_everything_through(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(CONFIG)
    command = ["node", str(CLIENT), f"http://127.0.0.1:{gateway.port}", gateway.key, "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["limited"] >= 1
    assert len(set(said["ids"])) == 7
    assert {gateway.settled(id_)["status"] for id_ in said["ids"]} == {"sent"}
