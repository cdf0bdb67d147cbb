"""What `postroom demo` does: starts the servers, sends, and compares what was meant with what arrived."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import typer

from postroom.cli.demo.arrivals import Arrival, at_sendgrid, at_smtp, at_twilio, at_vonage, meant
from postroom.cli.demo.samples import SENDER, TWILIO_OPTIONS, emails, texts
from postroom.cli.tables import show_table
from postroom.client import Postroom
from postroom.errors import DeliveryError, PostroomError
from postroom.receipts import Receipt
from postroom.testing.http import Answer, HttpRecorder
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postroom.delivery.bulk import Result
    from postroom.messages import Email, Sms
    from postroom.testing.http import RecordedRequest

COLUMNS = ("from", "to", "arrived", "besides", "by", "answered")
MISSING = "NOT AS MEANT"


@dataclass(slots=True)
class Servers:
    """The local ends: two mail servers, one of which misbehaves, and one server for each HTTP API."""

    smtp: SmtpRecorder = field(default_factory=SmtpRecorder)
    troubled: SmtpRecorder = field(default_factory=SmtpRecorder)
    sendgrid: HttpRecorder = field(default_factory=HttpRecorder)
    twilio: HttpRecorder = field(default_factory=HttpRecorder)
    vonage: HttpRecorder = field(default_factory=HttpRecorder)


async def run() -> bool:
    """Run the demonstration; return whether everything arrived as meant."""
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"  # nothing is to leave this machine
    servers = Servers()
    async with AsyncExitStack() as stack:
        for server in (servers.smtp, servers.troubled, servers.sendgrid, servers.twilio, servers.vonage):
            await stack.enter_async_context(server)
        _teach(servers)
        room = await stack.enter_async_context(Postroom(**_configuration(servers)))
        good = [*await _all_providers(room, servers), await _moves_on(room, servers), await _stays(room, servers)]
    typer.echo("\nEverything arrived as meant." if all(good) else "\nNot everything arrived as meant: see above.")
    return all(good)


def _configuration(servers: Servers) -> dict[str, Any]:
    mail = {"provider": "smtp", "host": "127.0.0.1", "tls": "none", "from": SENDER}
    key = {"provider": "vonage", "api_key": "abcd1234", "api_secret": "local", "base_url": servers.vonage.url}
    return {
        "accounts": {
            "mail": {**mail, "port": servers.smtp.port},
            "troubled": {**mail, "port": servers.troubled.port},
            "sg": {"provider": "sendgrid", "api_key": "local", "base_url": servers.sendgrid.url},
            "texts": {"provider": "twilio", "account_sid": "AC0", "auth_token": "x", "base_url": servers.twilio.url},
            "vonage-messages": {**key, "api": "messages"},
            "vonage-sms": {**key, "api": "sms"},
        },
        "routes": {"careful": {"via": ["troubled", "mail"]}},
    }


def _teach(servers: Servers) -> None:
    """Give each HTTP server the answers of its vendor."""
    numbers = count(1)
    servers.sendgrid.answer_with(lambda _: Answer(202, headers={"X-Message-Id": f"sendgrid-{next(numbers)}"}))
    servers.twilio.answer_with(
        lambda _: Answer(201, {"sid": f"SM{next(numbers):032x}", "status": "queued", "num_segments": "1"})
    )

    def vonage(request: RecordedRequest) -> Answer:
        if request.path == "/v1/messages":
            return Answer(202, {"message_uuid": f"vonage-{next(numbers)}"})
        part = {"to": dict(request.form())["to"], "message-id": f"vonage-{next(numbers)}", "status": "0"}
        return Answer(200, {"message-count": "1", "messages": [part]})

    servers.vonage.answer_with(vonage)


async def _all_providers(room: Postroom, servers: Servers) -> list[bool]:
    mail, grid, sms, vonage = servers.smtp, servers.sendgrid, servers.twilio, servers.vonage
    runs: list[tuple[str, Sequence[Email | Sms], Callable[[], list[Arrival]]]] = [
        ("SMTP", emails("mail"), lambda: [at_smtp(found) for found in mail.messages]),
        ("SendGrid", emails("sg"), lambda: [at_sendgrid(found) for found in grid.requests]),
        ("Twilio", texts("texts", TWILIO_OPTIONS), lambda: [at_twilio(found) for found in sms.requests]),
        ("Vonage Messages API", texts("vonage-messages"), lambda: [at_vonage(found) for found in vonage.requests]),
        ("Vonage SMS API", texts("vonage-sms"), lambda: [at_vonage(found) for found in vonage.requests[3:]]),
    ]
    return [await _provider(room, *planned) for planned in runs]


async def _provider(
    room: Postroom, title: str, messages: Sequence[Email | Sms], arrivals: Callable[[], list[Arrival]]
) -> bool:
    """Send one message, then the others as a batch, and show each beside what the server saw of it."""
    results = [await _one(room, messages[0]), *await room.send_many(messages[1:])]
    arrived = arrivals()
    rows = [(_found(meant(message), arrived), _said(result)) for message, result in zip(messages, results, strict=True)]
    strays = [(stray, "NOT MEANT") for stray in arrived]
    typer.echo(f"\n{title}: one message, then a batch of two")
    show_table(COLUMNS, [(*arrival, said) for arrival, said in rows + strays])
    return not strays and all(arrival.content != MISSING for arrival, _ in rows) and all(map(_accepted, results))


def _found(wanted: Arrival, arrived: list[Arrival]) -> Arrival:
    """Take out of `arrived`, and return, what came as it was meant."""
    for at, arrival in enumerate(arrived):
        if arrival._replace(door="") == wanted:
            return arrived.pop(at)
    return wanted._replace(content=MISSING)


async def _moves_on(room: Postroom, servers: Servers) -> bool:
    """The first account fails before the message is handed over: the second takes it."""
    typer.echo("\nFailover, the first server hangs up before it has the message")
    servers.troubled.drop("mail", times=1)
    before = len(servers.smtp.messages)
    result = await _one(room, emails("careful")[0])
    copies = len(servers.smtp.messages) - before
    show_table(("copies at the second server", "answered"), [(str(copies), _said(result))])
    return copies == 1 and _accepted(result)


async def _stays(room: Postroom, servers: Servers) -> bool:
    """The first account may have the message: the second must not get it."""
    typer.echo("\nFailover, the first server takes the message and hangs up without a word")
    servers.troubled.drop("dot", times=1)
    before = len(servers.smtp.messages)
    result = await _one(room, emails("careful")[0])
    copies = len(servers.smtp.messages) - before
    show_table(("copies at the second server", "answered"), [(str(copies), _said(result))])
    return copies == 0 and isinstance(result, DeliveryError) and _status(result) == "in_doubt"


async def _one(room: Postroom, message: Email | Sms) -> Result:
    try:
        return await room.send(message)
    except PostroomError as error:
        return error


def _accepted(result: Result) -> bool:
    return isinstance(result, Receipt) and result.status == "sent"


def _said(result: Result) -> str:
    if isinstance(result, Receipt):
        tried = ", ".join(f"{attempt.account} {attempt.outcome}" for attempt in result.attempts)
        return f"{result.status} ({tried}) as {result.provider_message_id}"
    status = f"{_status(result)}, " if isinstance(result, DeliveryError) else ""
    return f"{status}{result.code}: {result}"


def _status(error: DeliveryError) -> str | None:
    return str(error.receipt.status) if error.receipt else None
