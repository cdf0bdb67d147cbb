"""Sends a second through an HTTP provider's transport, against raw aiohttp and the provider's SDK.

    python tests/benchmarks/http_throughput.py twilio [--sends 3000] [--rounds 5] [--concurrency 50]

All three post over TLS to a loopback server in a process of its own, which answers at once. `raw` posts with a bare
aiohttp session the very bytes the transport sends; `sdk` is the SDK as its documentation uses it. Rounds take turns, so
that noise of the machine falls on all; the table gives medians: sends a second, their ratio to the `raw` of the same
round, and this process's CPU time a send, which noise touches least. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import ssl
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import trustme

from postroom.messages import Email, Sms
from postroom.plugin import Resources, Transport
from postroom.plugin.http_session import open_session
from postroom.testing.http import Answer, HttpRecorder, RecordedRequest


@dataclass(frozen=True)
class Case:
    """A provider: what its server answers, its transport at a base URL, a message, and a blocking SDK call."""

    status: int
    answer: dict[str, Any]
    transport: Callable[[str, Resources], Transport[Any, Any]]
    message: Email | Sms
    sdk: Callable[[str], Callable[[], object]]


def twilio() -> Case:
    from postroom_twilio.settings import TwilioSettings
    from postroom_twilio.transport import TwilioSms

    sid = "AC" + "0123456789abcdef" * 2
    sender, recipient, body = "+15005550006", "+15005550010", "Your code is 123456"

    def transport(url: str, resources: Resources) -> TwilioSms:
        settings = TwilioSettings(account_sid=sid, auth_token="token", from_=sender, base_url=url)
        return TwilioSms("bench", settings, resources)

    def sdk(url: str) -> Callable[[], object]:
        import logging

        from twilio.rest import Client

        logging.getLogger("twilio.http_client").setLevel(logging.WARNING)
        client = Client(sid, "token")
        client.api.base_url = url
        return lambda: client.messages.create(to=recipient, from_=sender, body=body)

    answer = {"sid": "SM" + "0" * 32, "status": "queued", "num_segments": "1", "to": recipient, "from": sender}
    return Case(201, answer, transport, Sms(to=recipient, from_=sender, body=body, id="0" * 32), sdk)


VONAGE_FROM, VONAGE_TO, VONAGE_BODY = "447700900001", "447700900000", "Your code is 123456"


def vonage_messages() -> Case:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def sdk(url: str) -> Callable[[], object]:
        from vonage import Auth, HttpClientOptions, Vonage
        from vonage_messages.models import Sms as SmsModel

        options = HttpClientOptions(api_host=url.removeprefix("https://"))
        client = Vonage(Auth(application_id="app-1", private_key=pem), options)
        return lambda: client.messages.send(SmsModel(to=VONAGE_TO, from_=VONAGE_FROM, text=VONAGE_BODY))

    return vonage(202, {"message_uuid": "0" * 32}, sdk, {"application_id": "app-1", "private_key": pem})


def vonage_sms() -> Case:
    credentials = {"api_key": "abcd1234", "api_secret": "secret"}

    def sdk(url: str) -> Callable[[], object]:
        from vonage import Auth, HttpClientOptions, Vonage
        from vonage_sms import SmsMessage

        options = HttpClientOptions(rest_host=url.removeprefix("https://"))
        client = Vonage(Auth(**credentials), options)
        return lambda: client.sms.send(SmsMessage(to=VONAGE_TO, from_=VONAGE_FROM, text=VONAGE_BODY))

    part = {"to": VONAGE_TO, "message-id": "0" * 16, "status": "0", "remaining-balance": "3.1", "network": "12345"}
    answer = {"message-count": "1", "messages": [part | {"message-price": "0.03"}]}
    return vonage(200, answer, sdk, {"api": "sms", **credentials})


def vonage(
    status: int, answer: dict[str, Any], sdk: Callable[[str], Callable[[], object]], settings: dict[str, Any]
) -> Case:
    from postroom_vonage.settings import VonageSettings
    from postroom_vonage.transport import VonageSms

    def transport(url: str, resources: Resources) -> VonageSms:
        return VonageSms("bench", VonageSettings(base_url=url, **settings), resources)

    message = Sms(to=f"+{VONAGE_TO}", from_=f"+{VONAGE_FROM}", body=VONAGE_BODY, id="0" * 32)
    return Case(status, answer, transport, message, sdk)


def sendgrid() -> Case:
    from postroom_sendgrid.settings import SendGridSettings
    from postroom_sendgrid.transport import SendGridEmail

    sender, recipient, subject, text = "post@example.org", "ann@example.org", "Hello", "word " * 200

    def transport(url: str, resources: Resources) -> SendGridEmail:
        settings = SendGridSettings(api_key="SG.key", base_url=url, concurrency=1000)
        return SendGridEmail("bench", settings, resources)

    def sdk(url: str) -> Callable[[], object]:
        from sendgrid import SendGridAPIClient
        from sendgrid.helpers.mail import Mail

        client = SendGridAPIClient("SG.key", host=url)
        return lambda: client.send(
            Mail(from_email=sender, to_emails=recipient, subject=subject, plain_text_content=text)
        )

    message = Email(
        to=recipient, from_=sender, subject=subject, text=text, id="0" * 32, message_id="<bench@example.org>"
    )
    return Case(202, {}, transport, message, sdk)


CASES: dict[str, Callable[[], Case]] = {
    "sendgrid": sendgrid,
    "twilio": twilio,
    "vonage-messages": vonage_messages,
    "vonage-sms": vonage_sms,
}


class FastServer(asyncio.Protocol):
    """Answers every request with the same bytes, reading no more of it than its length."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(self._answer)


def serve(ready: Connection, certificate: str, status: int, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"

    async def run() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: FastServer(head.encode() + body), "127.0.0.1", 0, ssl=context, backlog=512
        )
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def captured(case: Case) -> RecordedRequest:
    """The request the transport makes."""
    async with HttpRecorder() as recorder:
        recorder.answer(Answer(case.status, case.answer))
        resources = Resources()
        transport = case.transport(recorder.url, resources)
        await transport.open()
        await transport.send(case.message)
        await transport.close()
        await resources.close()
        return recorder.requests[0]


@dataclass(frozen=True)
class Rate:
    """Sends a second, and microseconds of CPU a send."""

    per_second: float
    cpu: float


class Clock:
    """Measures what happens after it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def rate(self, sends: int) -> Rate:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Rate(sends / wall, cpu / sends * 1e6)


async def rate_of(send: Callable[[], Awaitable[object]], sends: int, concurrency: int) -> Rate:
    left = iter(range(sends))

    async def work() -> None:
        for _ in left:
            await send()

    await asyncio.gather(*(send() for _ in range(concurrency)))
    clock = Clock()
    await asyncio.gather(*(work() for _ in range(concurrency)))
    return clock.rate(sends)


async def raw_rate(url: str, request: RecordedRequest, sends: int, concurrency: int) -> Rate:
    kept = {k: v for k, v in request.headers.items() if k not in {"host", "content-length", "user-agent"}}
    async with open_session() as session:

        async def post() -> None:
            async with session.post(url + request.target, data=request.body, headers=kept) as response:
                await response.read()

        return await rate_of(post, sends, concurrency)


async def transport_rate(url: str, case: Case, sends: int, concurrency: int) -> Rate:
    resources = Resources()
    transport = case.transport(url, resources)
    await transport.open()
    try:
        return await rate_of(lambda: transport.send(case.message), sends, concurrency)
    finally:
        await transport.close()
        await resources.close()


def sdk_rate(url: str, case: Case, sends: int, concurrency: int) -> Rate:
    call = case.sdk(url)
    with ThreadPoolExecutor(concurrency) as pool:
        list(pool.map(lambda _: call(), range(concurrency)))
        clock = Clock()
        list(pool.map(lambda _: call(), range(sends)))
        return clock.rate(sends)


def measure(case: Case, url: str, sends: int, rounds: int, concurrency: int) -> dict[str, list[Rate]]:
    request = asyncio.run(captured(case))
    rates: dict[str, list[Rate]] = {"raw": [], "postroom": [], "sdk": []}
    for _ in range(rounds):
        rates["raw"].append(asyncio.run(raw_rate(url, request, sends, concurrency)))
        rates["postroom"].append(asyncio.run(transport_rate(url, case, sends, concurrency)))
        rates["sdk"].append(sdk_rate(url, case, max(sends // 10, concurrency), concurrency))
    return rates


def print_table(provider: str, rates: dict[str, list[Rate]]) -> None:
    print(f"{provider:<16} {'sends/s':>8} {'of raw':>7} {'CPU us':>7}")
    for mode, runs in rates.items():
        speed = statistics.median(run.per_second for run in runs)
        ratio = statistics.median(run.per_second / raw.per_second for run, raw in zip(runs, rates["raw"], strict=True))
        print(f"{mode:<16} {speed:>8,.0f} {ratio:>7.2f} {statistics.median(run.cpu for run in runs):>7.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("provider", choices=CASES)
    parser.add_argument("--sends", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=50)
    options = parser.parse_args()
    case = CASES[options.provider]()
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        certificate, bundle = Path(folder, "server.pem"), Path(folder, "authority.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        authority.cert_pem.write_to_path(bundle)
        os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = str(bundle)
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, str(certificate), case.status, case.answer), daemon=True
        )
        server.start()
        try:
            url = f"https://127.0.0.1:{ours.recv()}"
            print_table(options.provider, measure(case, url, options.sends, options.rounds, options.concurrency))
        finally:
            server.terminate()
            server.join()


if __name__ == "__main__":
    main()
