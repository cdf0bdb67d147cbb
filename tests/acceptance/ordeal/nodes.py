"""A trial on PostgreSQL: workers and gateways as if on machines of their own, each behind a network that can be cut."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import asyncpg
from ordeal.processes import Process
from ordeal.proxy import Proxy
from ordeal.trial import LEASE, Trial
from tests import postgres_server

from postroom import Email, Sms

THROUGH_GATEWAY = 2
"""Every second message comes over HTTP."""

DAMAGE = {
    "half a body": "UPDATE bodies SET body = left(body, length(body) / 2) WHERE seq = $1",
    "no body": "DELETE FROM bodies WHERE seq = $1",
    "half a progress": "UPDATE messages SET progress = '{\"tried\": [' WHERE seq = $1",
    "nonsense for a receipt": "UPDATE messages SET receipt = 'x' WHERE seq = $1",
    "attachments gone": "DELETE FROM message_files WHERE seq = $1",
}
"""What some other program may do to rows that wait, and the SQL that does it."""


@dataclass
class TrialOfNodes(Trial):
    """Workers and gateways at one database; what the trial itself asks of that goes there without a proxy."""

    gateways_wanted: int = 2
    gateways: list[Process] = field(default_factory=list)
    connections_ended: int = 0

    async def __aenter__(self) -> Self:
        self.server, place, self.url = await asyncio.to_thread(postgres_server.start)
        self.place = Path(place)
        self.settings["url"] = self.url
        self._nodes: dict[int, Proxy] = {}
        try:
            await super().__aenter__()
            await self._open()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *failure: object) -> None:
        try:
            await super().__aexit__(*failure)
        finally:
            await asyncio.to_thread(postgres_server.stop, self.server, str(self.place))

    async def _open(self) -> None:
        # From here on processes learn from their surroundings where the server is, each through its own proxy.
        self.config.write_text(self.config.read_text().replace(self.url, "postgresql:///postgres"))
        with self.config.open("a") as config:
            config.write("[gateway]\nrate_limit = []\n")
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession())
        self._key = await asyncio.to_thread(self._new_key)

    def _new_key(self) -> str:
        command = [sys.executable, "-m", "postroom", "keys", "create", "--json", "--config", str(self.config)]
        made = subprocess.run(
            command, env={**os.environ, **self._environment(self._port)}, check=True, capture_output=True
        )
        key: str = json.loads(made.stdout)["key"]
        return key

    @property
    def _port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port

    @staticmethod
    def _environment(port: int) -> dict[str, str]:
        return {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postroom"}

    # --- the nodes

    async def start_workers(self) -> None:
        await super().start_workers()
        while len(self.gateways) < self.gateways_wanted:
            self.gateways.append(await self._node("serve", "--port", "0", begins="listening on"))

    async def new_worker(self) -> Process:
        return await self._node("worker", begins="delivering what is in")

    async def _node(self, command: str, *arguments: str, begins: str) -> Process:
        proxy = await self._stack.enter_async_context(Proxy(self._port))
        environment: dict[str, Any] = self._environment(proxy.port)
        process = await self.crew.command(command, *arguments, begins=begins, **environment)
        self._nodes[process.pid] = proxy
        return process

    def _address(self, gateway: Process) -> str:
        found = re.search(r"listening on (\S+)", self.crew.log(gateway.log_name))
        assert found
        return found[1]

    # --- the load

    async def _offered(self, messages: list[Email | Sms]) -> list[object]:
        over_http = [message for message in messages if self._comes_over_http(message)]
        others = [message for message in messages if not self._comes_over_http(message)]
        found = dict(zip(map(id, others), await super()._offered(others), strict=True)) if others else {}
        posted = await asyncio.gather(*(self._posted(message) for message in over_http))
        found |= dict(zip(map(id, over_http), posted, strict=True))
        return [found[id(message)] for message in messages]

    def _comes_over_http(self, message: Email | Sms) -> bool:
        """One message always comes the same way: a gateway's key has idempotency keys of its own."""
        assert message.idempotency_key
        return bool(self.gateways) and int(message.idempotency_key.split()[1]) // 2 % THROUGH_GATEWAY == 0

    async def _posted(self, message: Email | Sms) -> object:
        """Offer a message to any gateway."""
        headers = {"Auth-token": self._key, "Idempotency-Key": message.idempotency_key or ""}
        channel, body = _as_json(message)
        try:
            url = f"{self._address(self.random.choice(self.gateways))}/v1/communicate/{channel}"
            async with self._http.post(url, json=body, headers=headers) as answer:
                said = await answer.json()
                return said["id"] if answer.status == 202 else said
        except (aiohttp.ClientError, OSError, TimeoutError, IndexError) as error:
            await asyncio.sleep(0.1)
            return error

    # --- the faults

    async def kill_gateway(self) -> None:
        """SIGKILL to one gateway, with the worker in it, and another in its place."""
        gateway = self.gateways.pop(self.random.randrange(len(self.gateways)))
        await gateway.kill()
        self.note("kill_gateway", pid=gateway.pid)
        await self.start_workers()

    async def cut(self) -> None:
        """The server ends every connection that there is."""
        ended = await self._ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'postroom %'"
        )
        count = int(ended.removeprefix("SELECT "))
        self.connections_ended += count
        self.note("cut", connections=count)

    async def partition(self) -> None:
        """Nothing passes between one node and the server until others take it for dead; then it passes, or breaks."""
        node = self.random.choice([*self.workers, *self.gateways])
        proxy, seconds, breaks = (
            self._nodes[node.pid],
            self.random.uniform(1.5, 3.0) * LEASE,
            self.random.random() < 0.5,
        )
        self.note("partition", pid=node.pid, seconds=seconds, breaks=breaks)
        proxy.part()
        await asyncio.sleep(seconds)
        if breaks:
            proxy.drop()
        proxy.join()

    async def restart(self) -> None:
        """The server is ended in the middle of everything (immediate mode), and started again on what it had."""
        os.kill(self.server, signal.SIGQUIT)
        while _lives(self.server):
            await asyncio.sleep(0.01)
        seconds = self.random.uniform(0, 2.0) * LEASE
        await asyncio.sleep(seconds)
        self.server, *_ = await asyncio.to_thread(postgres_server.serve, self.place, port=self._port)
        self.note("restart", seconds=seconds)

    async def lock(self) -> None:
        """Another program holds the messages for some leases."""
        seconds = self.random.uniform(2.0, 4.0) * LEASE

        async def held(connection: Any) -> None:
            await connection.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
            await asyncio.sleep(seconds)

        await self._in_transaction(held)
        self.note("lock", seconds=seconds)

    @asynccontextmanager
    async def workers_held_back(self) -> AsyncIterator[None]:
        """They go on: a row that is being claimed is passed over."""
        yield

    async def damage(self) -> None:
        async def damaged(connection: Any) -> None:
            rows = await connection.fetch(
                "SELECT seq, id FROM messages WHERE status IN ('queued', 'retrying') FOR UPDATE SKIP LOCKED"
            )
            for seq, id_ in self.random.sample(rows, min(4, len(rows))):
                what = self.random.choice(list(DAMAGE))
                await connection.execute(DAMAGE[what], seq)
                self.damaged[id_] = what
                self.note("damage", id=id_, what=what)

        await self._in_transaction(damaged)
        self.note("damage")

    async def _ask(self, query: str) -> str:
        async def asked(connection: Any) -> str:
            return str(await connection.execute(query))

        return str(await self._in_transaction(asked))

    async def _in_transaction(self, work: Callable[[Any], Any]) -> Any:
        connection = await asyncpg.connect(self.url, server_settings={"search_path": "postroom"})
        try:
            async with connection.transaction():
                return await work(connection)
        finally:
            await connection.close()

    # --- the end

    async def settle(self, patience: float = 60.0) -> None:
        await super().settle(patience)
        if self.done["cut"] and not self.connections_ended:
            self.broken.append("no cut has found a connection to end")
        for gateway in self.gateways:
            if (code := await gateway.stop()) != 0:
                self.broken.append(f"a gateway that was asked to end did so with {code}")


def _as_json(message: Email | Sms) -> tuple[str, dict[str, Any]]:
    if isinstance(message, Sms):
        return "sms", {"data": {"to": message.to[0], "body": message.body}}
    files = [{"name": a.filename, "type": a.content_type, "content": a.content.decode()} for a in message.attachments]
    to = [{"email": str(address.email)} for address in message.to]
    return "email", {"to": to, "subject": message.subject, "text": message.text, "attachments": files}


def _lives(number: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(number, os.WNOHANG)
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True
