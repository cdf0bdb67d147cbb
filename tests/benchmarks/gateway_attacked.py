"""A well-behaved client beside an attack: what it waits, and what memory the service takes.

    python tests/benchmarks/gateway_attacked.py [--seconds 30] [--idle 3000] [--slow 400] [--open 5] [--flood 4]
        [--large 0] [--target-p99 250] [--target-slowest 100] [--target-memory 400]

`postroom serve` runs in a process of its own, with the embedded worker and the provider `file`. Another process
attacks it with all at once: connections that say nothing, connections that send a byte of a head a second, gzip bodies
that never end (to a webhook, without a key), a key that goes on over its limit as fast as it is answered, and, where
`--large` asks for it, callers that post e-mails with texts of 25 MB in different scripts, with files of 25 MB, and
bodies of 400,000 names, one after the other; the e-mails are sent, too. What is cut is opened again. A third process
posts an e-mail, looks it up and asks /healthz, many times a second over kept connections, before the attack and during
it. Printed are the times of both, the answers it got, and the largest memory (PSS) of all the service's processes. Nothing is asserted unless a target is given: then the exit code is 1 where it is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import http.client
import json
import multiprocessing
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

EMAIL = {"to": [{"email": "john@example.com"}], "subject": "Your order", "html": "<p>" + "x" * 900 + "</p>"}
CONFIG = """
[accounts.box]
provider = "file"
path = "sent"
from = "desk@example.org"
[gateway]
rate_limit = "600/10s"
flag_after = "100000000/h"
suspend_after = "100000000/h"
"""
EVERY = 0.025
"""Seconds between two rounds of the well-behaved client."""


class Attack:
    """What one process does to the service, all at once, until it is ended."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        names = ",".join(f'"{number}": 1' for number in range(400_000))
        content = random.Random(13).randbytes(12_500_000).hex()
        greek = content[:12_500_000].translate(str.maketrans("0123456789abcdef", "αβγδεζηθικλμνξο\n"))
        texts = content, greek, content.replace("0", "=\r\n")[:25_000_000]
        file = {"name": "plan.bin", "type": "application/octet-stream", "content": content}
        emails: list[dict[str, Any]] = [{**EMAIL, "html": text} for text in texts]
        emails.append({**EMAIL, "attachments": [file]})
        bodies = [json.dumps(email, ensure_ascii=False).encode() for email in emails]
        self._bodies = [*bodies, f'{{"a": {{{names}}}}}'.encode()]
        self._packed = gzip.compress(b"\\0" * 900_000)[:-8]

    async def run(self, idle: int, slow: int, unfinished: int, flood: int, large: int) -> None:
        """Never return."""
        kinds: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (idle, self._idle),
            (slow, self._slow),
            (unfinished, self._unfinished),
            (flood, self._flood),
            (large, self._large),
        ]
        async with asyncio.TaskGroup() as group:
            for count, kind in kinds:
                for number in range(count):
                    group.create_task(self._again(kind))
                    if number % 100 == 99:
                        await asyncio.sleep(0.05)

    async def _again(self, kind: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await kind()
            await asyncio.sleep(0.2)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def _idle(self) -> None:
        reader, writer = await self._open()
        await reader.read(1)
        writer.close()

    async def _slow(self) -> None:
        _, writer = await self._open()
        head = b"POST /v1/communicate/email HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"x" * 1000
        for byte in head:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1)

    async def _unfinished(self) -> None:
        reader, writer = await self._open()
        writer.write(
            b"POST /v1/webhooks/anything HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n"
        )
        writer.write(self._packed)
        await reader.read(1)
        writer.close()

    async def _flood(self) -> None:
        reader, writer = await self._open()
        body = json.dumps(EMAIL).encode()
        while True:
            writer.write(self._request(body))
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)

    async def _large(self) -> None:
        reader, writer = await self._open()
        for body in self._bodies:
            writer.write(self._request(body))
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)

    def _request(self, body: bytes) -> bytes:
        return (
            b"POST /v1/communicate/email HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Auth-token: %s\r\nContent-Length: %d\r\n\r\n%b" % (self._key.encode(), len(body), body)
        )


def attack(port: int, key: str, counts: tuple[int, int, int, int, int]) -> None:
    asyncio.run(Attack(port, key).run(*counts))


class Client:
    """The well-behaved client: what it waited for each kind of request, and what it was answered."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self.times: list[float] = []
        self.slowest: dict[str, float] = {}
        self.answers: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            begun = time.monotonic()
            accepted = self._ask(connection, "POST", "/v1/communicate/email", json.dumps(EMAIL))
            self._ask(connection, "GET", f"/v1/messages/{json.loads(accepted)['id']}" if accepted else "/healthz")
            self._ask(connection, "GET", "/healthz")
            time.sleep(max(0.0, EVERY - (time.monotonic() - begun)))
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None) -> bytes:
        begun = time.perf_counter()
        try:
            headers = {"Auth-token": self._key, "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            found = answer.read()
            kind = f"{answer.status}"
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            found, kind = b"", type(error).__name__
        self.times.append(time.perf_counter() - begun)
        name = path if path == "/healthz" else method
        self.slowest[name] = max(self.slowest.get(name, 0.0), self.times[-1])
        self.answers[kind] += 1
        return found if kind == "202" else b""

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        return sorted(self.times)[min(len(self.times) - 1, int(len(self.times) * share))] * 1000


class MemoryWatch(threading.Thread):
    """The largest sum of PSS of a process and its children, looked at twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.most = 0

    def run(self) -> None:
        while True:
            self.most = max(self.most, sum(pss(pid) for pid in family(self._pid)))
            time.sleep(0.5)


def family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(member for child in children for member in family(int(child)))]


def pss(pid: int) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def serve(folder: Path) -> tuple[subprocess.Popen[str], int]:
    (folder / "postroom.toml").write_text(CONFIG)
    process = subprocess.Popen(
        [sys.executable, "-m", "postroom", "serve", "--port", "0"],
        cwd=folder, stdout=(folder / "out").open("w"), stderr=(folder / "err").open("w"), text=True,
    )  # fmt: skip
    while not (
        found := re.search(r"listening on http://.*:(\d+)", (folder / "out").read_text() + (folder / "err").read_text())
    ):
        assert process.poll() is None, (folder / "err").read_text()
        time.sleep(0.05)
    return process, int(found[1])


def new_key(folder: Path, name: str) -> str:
    command = [sys.executable, "-m", "postroom", "keys", "create", name, "--json"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    key: str = json.loads(made.stdout)["key"]
    return key


def measure(port: int, key: str, seconds: float, name: str) -> Client:
    client = Client(port, key)
    client.run(seconds)
    p50, p99 = client.percentile(0.5), client.percentile(0.99)
    slowest = client.percentile(1)
    print(f"{name:8} p50 {p50:7.1f} ms   p99 {p99:7.1f} ms   slowest {slowest:7.1f} ms   {dict(client.answers)}")
    print(" " * 9 + "   ".join(f"{kind} {seconds * 1000:.1f} ms" for kind, seconds in client.slowest.items()))
    return client


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("idle", 3000), ("slow", 400), ("open", 5), ("flood", 4), ("large", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--target-p99", type=float, help="milliseconds")
    parser.add_argument("--target-slowest", type=float, help="milliseconds")
    parser.add_argument("--target-memory", type=float, help="megabytes")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "postroom.toml").write_text(CONFIG)
        good, bad = new_key(folder, "good"), new_key(folder, "bad")
        process, port = serve(folder)
        watch = MemoryWatch(process.pid)
        watch.start()
        counts = (given.idle, given.slow, given.open, given.flood, given.large)
        attacker = multiprocessing.get_context("spawn").Process(target=attack, args=(port, bad, counts), daemon=True)
        try:
            measure(port, good, 5, "alone")
            attacker.start()
            time.sleep(8)  # until all of them are there
            attacked = measure(port, good, given.seconds, "attacked")
        finally:
            attacker.terminate()
            attacker.join()
            process.terminate()
            process.wait(60)
    memory = watch.most / 1e6
    print(f"memory   {memory:.0f} MB of all processes of the service; {os.cpu_count()} cores")
    missed = given.target_p99 is not None and attacked.percentile(0.99) > given.target_p99
    missed |= given.target_slowest is not None and attacked.percentile(1) > given.target_slowest
    missed |= given.target_memory is not None and memory > given.target_memory
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
