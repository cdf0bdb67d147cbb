"""Accepted e-mails a second, each on disk before its 202, against the same server answering a bare JSON 202.

    python tests/benchmarks/gateway_throughput.py [--requests 4000] [--rounds 5] [--concurrency 50] [--refusals 2000]

All are uvicorn with uvloop and httptools in one process of its own, started by this: `postroom serve --no-worker`
with a key and a limit that is never reached; an ASGI application that reads the body and answers; and, where FastAPI
is installed, an endpoint of it that takes a JSON body and answers. A client in this process posts the same 1 KB e-mail
over kept connections, one request at a time on each. Rounds take turns, so that noise of the machine falls on all; the
table gives medians, and CPU time a request of the server. Then the same client goes on over a limit of one: CPU time
for each 429. Nothing is asserted; the target is a ratio of 0.5 and a millisecond.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

EMAIL = {
    "to": [{"email": "john@example.com", "type": "to"}],
    "subject": "Your order",
    "from_name": "Shop",
    "html": "<p>" + "x" * 900 + "</p>",
    "headers": {"Reply-To": "message.reply@example.com"},
    "attachments": [],
    "images": [],
}
CONFIG = """
[accounts.box]
provider = "memory"
from = "desk@example.org"
[gateway]
rate_limit = "{limit}"
flag_after = "100000000/h"
suspend_after = "100000000/h"
"""
BARE = """
import sys, uvicorn
ANSWER = b'{"id":"0123456789abcdef0123456789abcdef","status":"queued","recipients":[{"address":"john@example.com"}]}'
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off")
"""
FASTAPI = """
import sys, fastapi, uvicorn
app = fastapi.FastAPI()
@app.post("/v1/communicate/email", status_code=202)
async def email(body: dict) -> dict:
    return {"id": "0123456789abcdef0123456789abcdef", "status": "queued",
            "recipients": [{"address": body["to"][0]["email"], "status": "queued"}]}
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off")
"""


@dataclass
class Server:
    """A process that listens, and what it did: requests a second, and CPU seconds for each."""

    process: subprocess.Popen[bytes]
    port: int
    key: str = ""
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(folder: Path, limit: str) -> Server:
    folder.mkdir()
    (folder / "postroom.toml").write_text(CONFIG.format(limit=limit))
    postroom = [sys.executable, "-m", "postroom"]
    key = subprocess.run([*postroom, "keys", "create"], cwd=folder, capture_output=True, text=True, check=True).stdout
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*postroom, "serve", "--no-worker", "--port", str(port)], cwd=folder, stdout=log, stderr=log
        )
    return listening(Server(process, port, key.strip()))


def bare(program: str) -> Server:
    port = free_port()
    return listening(Server(subprocess.Popen([sys.executable, "-c", program, str(port)]), port))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def listening(server: Server) -> Server:
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", server.port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return server
    raise SystemExit(f"nothing listens on port {server.port}")


async def post(server: Server, requests: int, concurrency: int, status: bytes) -> None:
    """Post `requests` e-mails and keep how fast it went."""
    body = json.dumps(EMAIL).encode()
    head = (
        f"POST /v1/communicate/email HTTP/1.1\r\nHost: 127.0.0.1\r\nAuth-token: {server.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    left = iter(range(requests))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in left:
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 " + status), answer
            length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        writer.close()

    cpu, begun = server.cpu(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    server.rates.append(requests / (time.perf_counter() - begun))
    server.costs.append((server.cpu() - cpu) / requests)


def show(name: str, server: Server) -> None:
    rate, cost = statistics.median(server.rates), statistics.median(server.costs)
    print(f"{name:22} {rate:8.0f}/s  {cost * 1e6:6.0f} µs of CPU each")


async def measure(options: argparse.Namespace, folder: Path) -> None:
    durable, limited = started(folder / "durable", "100000000/h"), started(folder / "limited", "1/h")
    others = {"bare ASGI": bare(BARE)}
    if find_spec("fastapi"):
        others["FastAPI"] = bare(FASTAPI)
    try:
        for number in range(options.rounds + 1):
            for server in (durable, *others.values()):
                await post(server, options.requests, options.concurrency, b"202")
                if not number:  # warms up
                    server.rates.clear()
                    server.costs.clear()
        await post(limited, 1, 1, b"202")
        limited.rates.clear()
        limited.costs.clear()
        await post(limited, options.refusals, options.concurrency, b"429")
    finally:
        for server in (durable, limited, *others.values()):
            server.process.terminate()
            server.process.wait()
    for name, server in {"accepted, on disk": durable, **others, "429": limited}.items():
        show(name, server)
    for name, server in others.items():
        ratio = statistics.median(a / b for a, b in zip(durable.rates, server.rates, strict=True))
        print(f"accepted / {name}: {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--refusals", type=int, default=2000)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(parser.parse_args(), Path(folder)))


if __name__ == "__main__":
    main()
