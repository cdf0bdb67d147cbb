"""What `postroom demo` does: starts the servers, sends, and compares what was said with what arrived."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from email import message_from_bytes
from itertools import count
from typing import TYPE_CHECKING, Any

import typer

from postroom.cli.demo_samples import SENDER, TWILIO_OPTIONS, emails, texts
from postroom.errors import DeliveryError, PostroomError
from postroom.receipts import Receipt
from postroom.room import Postroom
from postroom.testing.http import Answer, HttpRecorder
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postroom.messages import Email, Sms
    from postroom.room import Result
    from postroom.testing.http import RecordedRequest


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
    servers = Servers()
    async with AsyncExitStack() as stack:
        for server in (servers.smtp, servers.troubled, servers.sendgrid, servers.twilio, servers.vonage):
            await stack.enter_async_context(server)
        _teach(servers)
        room = await stack.enter_async_context(Postroom(**_configuration(servers)))
        good = [await _all_providers(room, servers), await _failover(room, servers)]
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


async def _all_providers(room: Postroom, servers: Servers) -> bool:
    vonage = servers.vonage.requests
    runs: list[tuple[str, Sequence[Email | Sms], Callable[[], list[str]]]] = [
        ("SMTP", emails("mail"), lambda: [_mail(m.data) for m in servers.smtp.messages]),
        ("SendGrid", emails("sg"), lambda: _http(servers.sendgrid.requests)),
        ("Twilio", texts("texts", TWILIO_OPTIONS), lambda: _http(servers.twilio.requests)),
        ("Vonage Messages API", texts("vonage-messages"), lambda: _http(r for r in vonage if r.path != "/sms/json")),
        ("Vonage SMS API", texts("vonage-sms"), lambda: _http(r for r in vonage if r.path == "/sms/json")),
    ]
    good = []
    for title, messages, arrived in runs:
        typer.echo(f"\n{title}: one message, then a batch of two")
        results: list[Result] = [await _one(room, messages[0]), *await room.send_many(messages[1:])]
        for result in results:
            typer.echo(f"  answered  {_said(result)}")
        for line in arrived():
            typer.echo(f"  arrived   {line}")
        good.append(all(isinstance(result, Receipt) for result in results) and bool(arrived()))
    return all(good)


async def _failover(room: Postroom, servers: Servers) -> bool:
    """The same route twice: the first account fails before the message is handed over, then after."""
    message = emails("careful")[0]
    before = len(servers.smtp.messages)

    typer.echo("\nFailover, the first server hangs up before it has the message")
    servers.troubled.drop("mail", times=1)
    refused = await _one(room, message)
    typer.echo(f"  answered  {_said(refused)}")
    moved_on = isinstance(refused, Receipt) and len(servers.smtp.messages) == before + 1

    typer.echo("\nFailover, the first server takes the message and hangs up without a word")
    servers.troubled.drop("dot", times=1)
    lost = await _one(room, message)
    copies = len(servers.smtp.messages) - before - 1
    typer.echo(f"  answered  {_said(lost)}")
    typer.echo(f"  copies at the second server: {copies}, since the first may have it")
    in_doubt = isinstance(lost, DeliveryError) and lost.outcome == "unknown" and copies == 0
    return moved_on and in_doubt


async def _one(room: Postroom, message: Email | Sms) -> Result:
    try:
        return await room.send(message)
    except PostroomError as error:
        return error


def _said(result: Result) -> str:
    if isinstance(result, Receipt):
        tried = ", ".join(f"{attempt.account} {attempt.outcome}" for attempt in result.attempts)
        return f"{result.status} ({tried}), its id there: {result.provider_message_id}"
    outcome = f", {result.outcome}" if isinstance(result, DeliveryError) else ""
    return f"{result.code}{outcome}: {result}"


def _mail(content: bytes) -> str:
    found = message_from_bytes(content)
    body = str(found.get_payload()).strip()
    return f"From: {found['From']}, To: {found['To']}, Reply-To: {found['Reply-To']}, {found['Subject']!r}, {body}"


def _http(requests: Any) -> list[str]:
    return [f"{request.method} {request.path} {request.body.decode()}" for request in requests]
