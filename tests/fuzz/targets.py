"""Targets: what a stranger's bytes reach, samples to begin with, and what may come of any bytes there.

Each is a callable that returns when the outcome is one of those promised, and raises otherwise.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import tempfile
import time
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.integration.conftest import LocalGateway, made_gateway

from postroom import Postroom, PostroomError
from postroom.cli.output import UsageError
from postroom.cli.send_many.rows import open_rows
from postroom.errors import MessageError, WebhookError
from postroom.plugin import Resources, Transport, WebhookRequest
from postroom.registry.registry import Registry
from postroom_vonage.auth import signature

SECRET = "0123456789abcdef0123456789abcdef"
URL = "https://post.example.org/v1/webhooks/it"
SENDGRID_KEY = ec.derive_private_key(7, ec.SECP256R1())
PUBLIC = b64encode(SENDGRID_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


class Fell(Exception):
    """Something came of a case that is not promised."""


@dataclass(frozen=True)
class Target:
    """`samples` are what mutation begins with; `attempt` raises for what must not happen."""

    name: str
    samples: tuple[bytes, ...]
    attempt: Callable[[bytes], None]


def _webhook(provider: str, signed: Callable[[bytes], WebhookRequest], **settings: Any) -> Callable[[bytes], None]:
    registry = Registry()
    kind = registry.transport(provider, registry.channels(provider)[0])
    transport: Transport[Any, Any] = kind("it", kind.settings_model.model_validate(settings), Resources())

    def attempt(body: bytes) -> None:
        try:
            events = transport.parse_webhook(signed(body))
        except WebhookError as error:
            if SECRET in str(error):
                raise Fell("the error shows the secret") from error
            return
        for event in events:
            event.model_dump_json()
            bytes.fromhex(event.fingerprint)

    return attempt


def _by_sendgrid(body: bytes) -> WebhookRequest:
    now = str(int(time.time()))
    name = "x-twilio-email-event-webhook"
    signed = b64encode(SENDGRID_KEY.sign(now.encode() + body, ec.ECDSA(SHA256()))).decode()
    return WebhookRequest("POST", URL, {f"{name}-signature": signed, f"{name}-timestamp": now}, body)


def _by_twilio(body: bytes) -> WebhookRequest:
    """Signed where the body is a form (twilio.com/docs/usage/security, "Validating Signatures")."""
    pairs = sorted(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    text = URL + "".join(name + value for name, value in pairs)
    signed = b64encode(hmac.new(SECRET.encode(), text.encode(errors="replace"), hashlib.sha1).digest()).decode()
    headers = {"x-twilio-signature": signed, "content-type": "application/x-www-form-urlencoded"}
    return WebhookRequest("POST", URL, headers, body)


def _by_vonage(body: bytes) -> WebhookRequest:
    claims = {"iat": int(time.time()), "payload_hash": hashlib.sha256(body).hexdigest()}
    with warnings.catch_warnings(action="ignore"):
        token = jwt.encode(claims, SECRET, algorithm="HS256")
    return WebhookRequest("POST", URL, {"authorization": f"Bearer {token}"}, body)


def _by_vonage_form(body: bytes) -> WebhookRequest:
    fields = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    fields |= {"timestamp": str(int(time.time()))}
    with suppress(UnicodeError):
        fields["sig"] = signature({n: v for n, v in fields.items() if n != "sig"}, SECRET, "sha256")
    content = urlencode(fields, errors="replace").encode()
    return WebhookRequest("POST", URL, {"content-type": "application/x-www-form-urlencoded"}, content)


def _by_mail(body: bytes) -> WebhookRequest:
    return WebhookRequest("POST", URL, {"content-type": "message/rfc822", "authorization": f"Bearer {SECRET}"}, body)


def _mail(kind: str, *lines: str) -> bytes:
    whole = (
        *("From: MAILER-DAEMON@example.com", "Date: Thu, 1 Jan 2026 14:00:00 +0000", "To: post@example.org"),
        *("MIME-Version: 1.0", f'Content-Type: multipart/report; report-type={kind}; boundary="b"', ""),
        *("--b", f"Content-Type: message/{kind}", "", *lines, "", "--b", "Content-Type: text/rfc822-headers", ""),
        *("Message-ID: <0123456789abcdef0123456789abcdef@example.org>", "Subject: Hello", "", "--b--", ""),
    )
    return "\r\n".join(whole).encode()


_EVENT = {
    "email": "ann@example.com",
    "event": "bounce",
    "timestamp": 1_700_000_000,
    "type": "bounce",
    "reason": "550 no",
}
_STATUS = {
    "message_uuid": "u",
    "to": "447700900000",
    "from": "447700900001",
    "status": "rejected",
    "client_ref": "0" * 32,
}
_DLR = {
    "msisdn": "447700900000",
    "to": "Shop",
    "messageId": "0A",
    "status": "failed",
    "err-code": "2",
    "scts": "2601011400",
}
_TEXT = {"MessageSid": "SM1", "MessageStatus": "undelivered", "To": "+447700900000", "From": "+15005550006"}


def _toml(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "postroom.toml"
        file.write_bytes(content)
        with suppress(PostroomError):
            Postroom.from_config(file).validate()


def _rows(ending: str) -> Callable[[bytes], None]:
    def attempt(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"rows.{ending}"
            file.write_bytes(content)
            with suppress(UsageError), open_rows(str(file)) as rows:
                for row in rows:
                    with suppress(MessageError):
                        row.message()

    return attempt


_TOML = b"""[defaults]
email = "main"
[accounts.main]
provider = "smtp"
host = "mx.example.org"
username = "u"
password = "p"
from = "Post <post@example.org>"
rate = "50/s"
[accounts.texts]
provider = "twilio"
account_sid = "AC00000000000000000000000000000000"
auth_token = "t"
[routes.r]
strategy = "weighted"
via = ["main"]
weights = {main = 2}
[[rules]]
channel = "sms"
country = ["GB"]
use = "texts"
[gateway]
rate_limit = ["20/30s"]
sms_countries = {"*" = ["GB"]}
"""

_CSV = (
    b"to,subject,text,from,reply_to,headers,tags\r\n"
    b'ann@example.org;"Bob" <bob@example.org>,Hello,"Hi, you",Post <post@example.org>,r@example.org,"{""X-A"": ""b""}",a;b\r\n'
)
_WORDS = (
    b"Return-Path: <>\r\nFrom: MAILER-DAEMON@b.example\r\nSubject: Undeliverable\r\nX-Failed-Recipients: a@b.example\r\n\r\n"
    b"This was not delivered to:\r\n\r\n<a@b.example>:\r\n550 5.1.1 no such user\r\n\r\n-- Original message --\r\n"
    b"Message-ID: <1@b.example>\r\nTo: a@b.example\r\n"
)
_LINES = b'{"to": ["ann@example.org"], "subject": "x", "html": "<p>x</p>", "headers": {"X-A": "b"}}\n{"to": "+447700900123", "body": "x"}\n'


def in_process() -> list[Target]:
    """Everything that is reached without a service."""
    vonage = {"api_key": "k", "api_secret": "s", "signature_secret": SECRET}
    form = urlencode(_TEXT).encode()
    mails = (
        _mail(
            "delivery-status",
            "Reporting-MTA: dns; mx",
            "",
            "Final-Recipient: rfc822; a@b.example",
            "Action: failed",
            "Status: 5.1.1",
        ),
        _mail("feedback-report", "Feedback-Type: abuse", "Version: 1", "Original-Rcpt-To: <a@b.example>"),
        _mail("global-delivery-status", "X: y", "", "Final-Recipient: utf-8; \\x{e4}@b.example", "Action: delayed"),
        _WORDS,
    )
    bounces = {
        "host": "h.example",
        "bounce_secret": SECRET,
        "return_path": "b@example.org",
        "return_path_secret": SECRET,
    }
    return [
        Target(
            "sendgrid",
            (json.dumps([_EVENT]).encode(),),
            _webhook("sendgrid", _by_sendgrid, api_key="k", webhook_public_key=PUBLIC),
        ),
        Target("twilio", (form,), _webhook("twilio", _by_twilio, account_sid=f"AC{'0' * 32}", auth_token=SECRET)),
        Target("vonage", (json.dumps(_STATUS).encode(),), _webhook("vonage", _by_vonage, **vonage)),
        Target(
            "vonage-form",
            (urlencode(_DLR).encode(),),
            _webhook("vonage", _by_vonage_form, **vonage, signature_method="sha256"),
        ),
        Target("bounce", mails, _webhook("smtp", _by_mail, host="h.example", bounce_secret=SECRET)),
        Target("return-path", mails, _webhook("smtp", _by_mail, **bounces)),
        Target("toml", (_TOML,), _toml),
        Target("csv", (_CSV,), _rows("csv")),
        Target("jsonl", (_LINES,), _rows("jsonl")),
    ]


_CONFIG = """
[defaults]
email = "box"
sms = "box"
[accounts.box]
provider = "memory"
from = "desk@example.org"
[accounts.mail]
provider = "smtp"
host = "127.0.0.1"
bounce_secret = "0123456789abcdef0123456789abcdef"
[gateway]
rate_limit = []
body_timeout = 1
public_url = "https://post.example.org"
"""

_KEY, _LENGTH = b"@KEY@", b"@LENGTH@"
"""In a case: the service's key, and the length of what follows the head."""


def _request(line: str, body: bytes = b"", **headers: str) -> bytes:
    given = {"Host": "post.example.org", "Auth-token": "@KEY@", "Content-Type": "application/json", **headers}
    length = {"Content-Length": "@LENGTH@"} if body else {}
    head = [f"{line} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in (given | length).items())]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


_EMAIL = {
    "to": [{"email": "a@b.example", "name": "A", "type": "to"}],
    "subject": "x",
    "html": "<p>x</p>",
    "headers": {"Reply-To": "A <a@b.example>, c@d.example", "X-A": "b"},
    "attachments": [{"name": "a.txt", "type": "text/plain", "content": "AAEC", "encoding": "base64"}],
}
_SMS = {"data": {"to": "+447700900123", "body": "Hi", "from": "+15005550006"}, "options": {"twilio_sid": "x"}}
_SAMPLES = (
    _request("POST /v1/communicate/email", json.dumps(_EMAIL).encode()),
    _request(
        "POST /v1/communicate/email/batch", json.dumps({"emails": [_EMAIL, _EMAIL]}).encode(), Idempotency_Key="k"
    ),
    _request("POST /v1/communicate/sms", json.dumps(_SMS).encode()),
    _request(
        "POST /v1/communicate/sms",
        b"data[to]=%2B447700900123&data[body]=x",
        Content_Type="application/x-www-form-urlencoded",
    ),
    _request(
        "POST /v1/webhooks/mail",
        _mail("delivery-status", "Action: failed"),
        Authorization=f"Bearer {SECRET}",
        Content_Type="message/rfc822",
    ),
    _request("GET /v1/messages?limit=5&status=queued&auth_token=@KEY@", Cookie='auth_token="@KEY@"; a=b'),
    _request("GET /v1/unsubscribe/x?y=z", X_Forwarded_For="192.0.2.1", Cookie="auth_token=x"),
    _request("OPTIONS /v1/communicate/email", Origin="https://a.example", Access_Control_Request_Method="POST"),
)


def exchange(port: int, request: bytes, *, seconds: float = 60.0) -> bytes:
    """Send bytes to the service, and return all that it answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        answer = b""
        with suppress(OSError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionError):
            while received := connection.recv(65536):
                answer += received
        return answer


@contextmanager
def gateway() -> Iterator[tuple[Target, LocalGateway]]:
    """The gateway in a thread of this process, over a real socket: a case is all that one connection sends."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        service = made_gateway(LocalGateway, folder, _CONFIG)
        service.start(work=False)
        stack.callback(service.stop)

        def attempt(case: bytes) -> None:
            head, blank, body = case.partition(b"\r\n\r\n")
            head = head.replace(_LENGTH, str(len(body)).encode()).replace(_KEY, service.key.encode())
            answer = exchange(service.port, head + blank + body)
            # 501 and 505 say that the request itself is of a kind that nobody serves (RFC 9110).
            if answer.startswith(b"HTTP/1.1 5") and answer[9:12] not in {b"501", b"505"}:
                raise Fell(answer[:2000].decode(errors="replace"))

        yield Target("gateway", _SAMPLES, attempt), service
