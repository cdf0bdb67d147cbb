"""Two workers and two gateways on one PostgreSQL, of each of which one is killed: every message is sent once."""

from __future__ import annotations

import asyncio
import http.client
import json
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postroom.cli.demo.fleet import Fleet, Member
from postroom.cli.demo.postgres_server import check_installed, postgres_server
from postroom.cli.demo.samples import SENDER
from postroom.cli.output import show_text
from postroom.cli.tables import show_table
from postroom.client import Postroom
from postroom.errors import OutboxError
from postroom.outbox.states import SETTLED
from postroom.outbox.views import MessageFilter
from postroom.receipts import Status
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postroom.outbox.views import MessageSummary

ROUNDS = 6
"""How often each sample of the page is sent: 36 messages in 24 requests."""

KILL_GATEWAY_AT, KILL_WORKER_AT = 8, 12
"""Requests after which a gateway is killed, and a worker."""

RATE = "15/s"
"""Slow enough that much is on its way when they are."""

ANSWERS_AFTER = 0.2
"""Seconds that the mail server thinks about each message, so that a worker that is killed has some on their way."""

ENDS_IN = 120.0
"""Seconds for everything to be sent."""

_CONFIG = """
[accounts.mail]
provider = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
from = "{sender}"
on_unknown = "hold"
rate = "{rate}"
[accounts.texts]
provider = "file"
path = "{texts}"
rate = "{rate}"
[defaults]
email = "mail"
sms = "texts"
[outbox]
url = "{url}"
lease = "2s"
[gateway]
rate_limit = "1000/30s"
"""


@dataclass
class Trial:
    """What was sent to whom, and what arrived."""

    fleet: Fleet
    mail: SmtpRecorder
    texts: Path
    key: str = ""
    sent: list[str] = field(default_factory=list)
    repeated: int = 0
    resolved: list[str] = field(default_factory=list)

    def arrived(self) -> Counter[str]:
        """How often each recipient was sent something."""
        mails = [recipient for message in self.mail.messages for recipient in message.recipients]
        texts = [f"+{path.stem.rpartition('-')[2]}" for path in self.texts.glob("*.json")]
        return Counter(mails + texts)


async def show_postgres() -> bool:
    """Run it; return whether every message arrived once."""
    check_installed()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="postroom-demo-")))
        mail = await stack.enter_async_context(SmtpRecorder())
        mail.delay("dot", ANSWERS_AFTER)
        url = await stack.enter_async_context(postgres_server())
        show_text(f"PostgreSQL runs at {url.partition('?')[0]}, the mail server on port {mail.port}")
        config = folder / "postroom.toml"
        texts = folder / "texts"
        config.write_text(_CONFIG.format(port=mail.port, sender=SENDER, rate=RATE, texts=texts, url=url))
        fleet = await stack.enter_async_context(Fleet(config))
        trial = Trial(fleet, mail, texts)
        room = await stack.enter_async_context(_room(config, url))
        await _run(trial, room)
        return _report(trial, await room.outbox.list(MessageFilter(limit=10 * len(trial.sent))))


async def _run(trial: Trial, room: Postroom) -> None:
    try:
        async with asyncio.timeout(ENDS_IN):
            await _send(trial)
            await _until_settled(trial, room)
    except TimeoutError as error:
        said = "".join(trial.fleet.said())
        raise OutboxError(
            f"not everything was sent within {ENDS_IN:.0f} seconds; the processes said:\n{said}"
        ) from error


def _room(config: Path, url: str) -> Postroom:
    """A program of the same outbox; its accounts only have names, since it sends nothing itself."""
    accounts: dict[str, dict[str, Any]] = {
        "mail": {"provider": "smtp", "host": "127.0.0.1", "from": SENDER},
        "texts": {"provider": "file", "path": config.with_name("texts")},
    }
    return Postroom(accounts=accounts, defaults={"email": "mail", "sms": "texts"}, outbox={"url": url})


async def _send(trial: Trial) -> None:
    """Send the samples through both gateways, and kill one of each while that is under way."""
    fleet = trial.fleet
    trial.key = json.loads(await fleet.answer("keys", "create", "demo", "--json"))["key"]
    workers = await asyncio.gather(fleet.worker("worker 1"), fleet.worker("worker 2"))
    gateways = list(await asyncio.gather(fleet.gateway("gateway 1"), fleet.gateway("gateway 2")))
    show_text(f"{len(workers)} workers run, and gateways on the ports {', '.join(str(each.port) for each in gateways)}")
    for number, (path, body) in enumerate(_requests(trial.sent)):
        through = gateways[number % len(gateways)]
        asked = asyncio.create_task(_ask(trial, through, gateways, number, path, body))
        if number == KILL_GATEWAY_AT:
            await asyncio.sleep(0)
            await through.kill()
            show_text(f"{through.name} is killed (kill -9) while it is asked")
        await asked
        if number == KILL_GATEWAY_AT:
            gateways.remove(through)
        if number == KILL_WORKER_AT:
            await trial.mail.until("dot", 3)
            await workers[0].kill()
            show_text(f"{workers[0].name} is killed (kill -9) after {len(trial.mail.messages)} e-mails")


def _requests(sent: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The requests of the page, again and again, with recipients of their own, which are noted in `sent`."""
    from postroom.gateway.api import samples

    def email(text: str = "Hi John 1") -> dict[str, Any]:
        sent.append(f"john+{len(sent)}@example.com")
        return {**deepcopy(samples.email(text)), "to": [{"email": sent[-1], "type": "to"}]}

    def sms() -> dict[str, Any]:
        sent.append(f"+1212{2_000_000 + len(sent)}")
        return {"data": {**samples.sms()["data"], "to": sent[-1]}}

    for _ in range(ROUNDS):
        yield "email", email()
        yield "email/batch", {"emails": [email(), email("Hi John Doe")]}
        yield "sms", sms()
        yield "sms/batch", {"sms": [sms(), sms()]}


async def _ask(
    trial: Trial, through: Member, gateways: list[Member], number: int, path: str, body: dict[str, Any]
) -> None:
    """Send a request, and once more to another gateway where no answer came, under the same key."""
    headers = {"Auth-token": trial.key, "Content-Type": "application/json", "Idempotency-Key": f"demo-{number}"}
    others = [each for each in gateways if each is not through]
    try:
        await asyncio.to_thread(_post, through.port, path, headers, body)
    except (OSError, http.client.HTTPException):
        trial.repeated += 1
        show_text(f"request {number + 1} has no answer from {through.name}, and is repeated to {others[0].name}")
        await asyncio.to_thread(_post, others[0].port, path, headers, body)


def _post(port: int, path: str, headers: dict[str, str], body: dict[str, Any]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", f"/v1/communicate/{path}", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    finally:
        connection.close()
    if answer.status != http.client.ACCEPTED:
        raise OutboxError(f"{path} was answered with {answer.status}: {text}")


async def _until_settled(trial: Trial, room: Postroom) -> None:
    """Wait until everything is sent; what a killed worker was handing over is looked for where it would have come."""
    while left := {*(await room.outbox.stats()).states} - SETTLED:
        if left == {Status.IN_DOUBT}:
            for line in await room.outbox.list(MessageFilter(status=(Status.IN_DOUBT,))):
                await _resolve(trial, room, line)
        await asyncio.sleep(0.1)


async def _resolve(trial: Trial, room: Postroom, line: MessageSummary) -> None:
    came = line.to[0] in trial.arrived()
    await room.outbox.resolve(line.id, "sent" if came else "retry", note="looked up where it was to arrive")
    trial.resolved.append(line.id)
    found = "it had arrived" if came else "it had not arrived, and is sent now"
    show_text(f"{line.id} to {line.to[0]} was in doubt: {found}")


def _report(trial: Trial, lines: list[MessageSummary]) -> bool:
    arrived = trial.arrived()
    rows = []
    for channel in ("email", "sms"):
        meant = [to for to in trial.sent if ("@" in to) == (channel == "email")]
        listed = [line for line in lines if line.channel == channel]
        came = [arrived[to] for to in meant]
        cells = (len(meant), len(listed), came.count(1), sum(count > 1 for count in came), came.count(0))
        rows.append((channel, *map(str, cells)))
    show_text(f"\n{trial.repeated} requests were repeated, {len(trial.resolved)} messages were in doubt")
    show_table(("channel", "sent", "accepted", "arrived once", "more than once", "never"), rows)
    return arrived == Counter(trial.sent) and len(lines) == len(trial.sent)
