"""What attackers, robots and broken programs send: each gets its documented answer, and nothing of it goes out."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Gateway, GatewayProcess, Reply, ServeGateway, ServeProcess


CONFIG = """
[accounts.box]
provider = "memory"
from = "desk@example.org"
[gateway]
rate_limit = "10000/s"
max_body = 2_000_000
max_recipients = 50
max_attachments = 5
max_batch = 20
body_timeout = 50.0
"""


@pytest.fixture(scope="module")
def gateway(serve_gateway: ServeGateway) -> Gateway:
    return serve_gateway(CONFIG)


@pytest.fixture(scope="module")
def measured(serve_process: ServeProcess) -> GatewayProcess:
    """The service as a process, whose memory can be measured."""
    return serve_process(CONFIG)


def one_email(**fields: Any) -> dict[str, Any]:
    return {"to": [{"email": "john@example.com"}], "subject": "Hello", "html": "<p>Hi</p>", **fields}


def refused(reply: Reply, status: int, code: str, field: str | None = None) -> None:
    assert (reply.status, reply.json["error"]) == (status, code)
    assert reply.json["message"]
    assert reply.headers["X-Request-Id"]
    if field:
        assert field in [detail["field"] for detail in reply.json["details"]]


DENIED = [
    "From", "from", "Sender", "To", "Cc", "Bcc", "BCC", "Subject", "Received", "Return-Path", "MIME-Version",
    "Content-Type", "content-transfer-encoding", "DKIM-Signature", "ARC-Seal", "Authentication-Results",
    "Resent-To", "X-SMTPAPI", "Received-SPF",
]  # fmt: skip


@pytest.mark.parametrize("name", DENIED)
def test_a_header_with_a_meaning_of_its_own_is_refused_by_name(gateway: Gateway, name: str) -> None:
    reply = gateway.post("/v1/communicate/email", one_email(headers={"X-Good": "1", name: "x"}))
    refused(reply, 400, "invalid_message", f"headers.{name}")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"subject": "Hi\r\nBcc: victim@example.com"}, "subject"),
        ({"subject": "Hi\x00"}, "subject"),
        ({"from_name": "Ann\nBcc: v@example.com"}, "from_name"),
        ({"headers": {"X-A": "1\r\nBcc: v@example.com"}}, "headers.X-A"),
        ({"headers": {"X-A\r\nBcc": "v@example.com"}}, None),
        ({"headers": {"X A": "1"}}, None),
        ({"headers": {"Reply-To": "a@example.com\r\nBcc: v@example.com"}}, "headers.Reply-To"),
        ({"to": [{"email": "a@example.com\r\nRCPT TO:<v@example.com>"}]}, "to[0].email"),
        ({"to": [{"email": "a@example.com", "name": "A\r\nBcc: v@example.com"}]}, "to[0].email"),
        ({"attachments": [{"name": "a\r\nb.txt", "content": "x"}]}, "attachments[0].name"),
        ({"attachments": [{"name": "a.txt", "type": "text/plain\r\nX: y", "content": "x"}]}, "attachments[0].type"),
        ({"images": [{"name": "a>\r\nX: y", "content": "eA=="}]}, "images[0].name"),
        ({"provider": "box\nx"}, "provider"),
    ],
)
def test_line_breaks_and_nul_where_a_header_or_a_command_comes_of_it_are_refused(
    gateway: Gateway, fields: Any, field: str | None
) -> None:
    reply = gateway.post("/v1/communicate/email", one_email(**fields))
    refused(reply, 400, "invalid_message", field)


@pytest.mark.parametrize("sender", ["+1500\r\n5550006", "Shop\x00", "Sh\nop"])
def test_line_breaks_in_the_sender_of_an_sms_are_refused(gateway: Gateway, sender: str) -> None:
    reply = gateway.post("/v1/communicate/sms", {"data": {"from": sender, "to": "+447700900123", "body": "x"}})
    refused(reply, 400, "invalid_message", "data.from")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"to": []}, "to"),
        ({"to": None}, "to"),
        ({"to": [{}]}, "to[0].email"),
        ({"to": [{"email": "not an address"}]}, "to[0].email"),
        ({"to": [{"email": "x" * 1_000_000 + "@example.com"}]}, "to[0].email"),
        ({"to": [{"email": "a@example.com", "type": "from"}]}, "to[0].type"),
        ({"to": [{"email": f"a{n}@example.com"} for n in range(51)]}, "to"),
        ({"to": [["a@example.com"]]}, "to[0]"),
        ({"headers": "X: y"}, "headers"),
        ({"headers": {"X-A": {"b": 1}}}, "headers.X-A"),
        ({"attachments": "x"}, "attachments"),
        ({"attachments": [{"name": "a", "content": "x"}] * 6}, "attachments"),
        ({"attachments": [{"name": "a", "content": "x", "encoding": "rot13"}]}, "attachments[0].encoding"),
        ({"attachments": [{"name": "a", "content": "%%", "encoding": "base64"}]}, "attachments[0].content"),
        ({"attachments": [{"name": "a", "content": "abc", "encoding": "hex"}]}, "attachments[0].content"),
        ({"attachments": [{"name": "a", "content": {"type": "Buffer", "data": [256]}}]}, "attachments[0].content"),
        ({"attachments": [{"name": "a"}]}, "attachments[0].content"),
        ({"required": "perhaps"}, "required"),
        ({"send_at": "soon"}, "send_at"),
    ],
)
def test_a_wrong_field_is_named_by_its_path_in_the_body(gateway: Gateway, fields: Any, field: str | None) -> None:
    refused(gateway.post("/v1/communicate/email", one_email(**fields)), 400, "invalid_message", field)


def test_every_wrong_field_is_named_at_once(gateway: Gateway) -> None:
    body = one_email(to=[{"email": "x"}], subject="a\nb", headers={"Bcc": "v@example.com"})
    reply = gateway.post("/v1/communicate/email", body)
    assert {detail["field"] for detail in reply.json["details"]} == {"to[0].email", "subject", "headers.Bcc"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b'{"to": NaN}', b"[1]", b'"text"', b"nul", b"\xff\xfe", b'{"a": 1, "a": 2}', b"{'a': 1}",
        b'{"a": 1,}', b'{"a": ' + b"9" * 5000 + b"}", b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 60 + b"1" + b"}" * 60,
    ],
)  # fmt: skip
def test_what_is_no_json_object_or_too_deep_is_a_400(gateway: Gateway, body: Any) -> None:
    reply = gateway.post("/v1/communicate/email", body)
    assert reply.status == 400
    assert reply.json["error"] in {"invalid_json", "invalid_body"}


def test_a_body_of_another_kind_is_a_415(gateway: Gateway) -> None:
    refused(gateway.post("/v1/communicate/email", b"<x/>", headers={"Content-Type": "text/xml"}), 415,
            "unsupported_media_type")  # fmt: skip
    refused(gateway.post("/v1/communicate/email", b"x", headers={"Content-Encoding": "br"}), 415,
            "unsupported_encoding")  # fmt: skip


def test_a_body_that_is_too_large_is_refused_by_its_length_before_it_is_sent(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.sendall(
            b"POST /v1/communicate/email HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n"
            b"Auth-token: " + gateway.key.encode() + b"\r\n\r\n"
        )
        head, _, body = everything(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert json.loads(body)["error"] == "too_large"


def test_a_chunked_body_that_grows_too_large_is_refused_on_its_way(gateway: Gateway) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"subject": "'
        for _ in range(100):
            yield b"x" * 100_000

    kind = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    try:
        reply = gateway.call("POST", "/v1/communicate/email", b"".join(pieces()), headers=kind)
    except (BrokenPipeError, ConnectionResetError):
        return  # it was cut while it was still talking
    refused(reply, 413, "too_large")


@pytest.mark.parametrize(("packing", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_decompression_bomb_is_stopped_while_it_is_unpacked(
    measured: GatewayProcess, packing: str, pack: Callable[[bytes], bytes]
) -> None:
    gateway, bomb = measured, pack(bytes(200_000_000))
    before = peak_memory(gateway)
    reply = gateway.post("/v1/communicate/email", bomb, headers={"Content-Encoding": packing})
    refused(reply, 413, "too_large")
    assert peak_memory(gateway) < before + 50_000_000


def test_a_packed_body_is_read_and_a_broken_one_refused(gateway: Gateway) -> None:
    whole = gzip.compress(json.dumps(one_email()).encode())
    packed = {"Content-Encoding": "gzip"}
    assert gateway.post("/v1/communicate/email", whole, headers=packed).status == 202
    refused(gateway.post("/v1/communicate/email", whole[:-9], headers=packed), 400, "invalid_body")
    refused(gateway.post("/v1/communicate/email", b"plain", headers=packed), 400, "invalid_body")


def test_base64_that_is_larger_than_an_email_may_be_is_refused_before_it_is_decoded(
    serve_process: ServeProcess,
) -> None:
    gateway = serve_process(CONFIG.replace("max_body = 2_000_000", "max_body = 100_000_000\nmax_bodies = 200_000_000"))
    file = {"name": "a.bin", "content": "A" * 80_000_000, "encoding": "base64"}
    refused(gateway.post("/v1/communicate/email", one_email(attachments=[file])), 413, "too_large")
    assert peak_memory(gateway) < 600_000_000


def test_a_batch_with_too_many_items_is_a_413(gateway: Gateway) -> None:
    refused(gateway.post("/v1/communicate/email/batch", {"emails": [one_email()] * 21}), 413, "too_large")


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "käse", "a\tb"])
def test_a_wrong_idempotency_key_is_a_400(gateway: Gateway, key: str) -> None:
    named = {"Idempotency-Key": key.encode("latin-1")}
    refused(gateway.post("/v1/communicate/email", one_email(), headers=named), 400, "invalid_idempotency_key")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/communicate/email", 405, "method_not_allowed"),
        ("DELETE", "/v1/messages", 405, "method_not_allowed"),
        ("POST", "/v1/communicate/push", 404, "not_found"),
        ("GET", "/v1/communicate/proxy/http://169.254.169.254/", 404, "not_found"),
        ("GET", "/v1/messages/nobody", 404, "not_found"),
        ("GET", "/v1/messages/", 404, "not_found"),
        ("GET", "/%00", 404, "not_found"),
        ("GET", "/../../etc/passwd", 404, "not_found"),
    ],
)
def test_what_is_not_there_is_told_in_the_form_of_every_error(
    gateway: Gateway, method: str, path: str, status: int, code: str
) -> None:
    refused(gateway.call(method, path), status, code)


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"HELO there\r\n\r\n", b"GET\r\n\r\n"])
def test_what_is_no_http_gets_a_400_and_is_hung_up_on(gateway: Gateway, noise: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as client:
        client.sendall(noise)
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "invalid_request"


def test_a_head_without_end_is_a_431(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        try:
            for number in range(2000):
                client.sendall(b"X-%d: %s\r\n" % (number, b"x" * 100))
        except OSError:
            return  # it was cut while it was still talking
        assert everything(client).startswith(b"HTTP/1.1 431 ")


LARGE_HEADS = {
    "many headers in one packet": b"".join(b"X-%d: %s\r\n" % (number, b"x" * 900) for number in range(100)),
    "more headers than anybody needs": b"".join(b"X-%d: x\r\n" % number for number in range(300)),
    "one long header": b"Cookie: auth_token=" + b"x" * 70_000 + b"\r\n",
}


@pytest.mark.parametrize("headers", LARGE_HEADS.values(), ids=LARGE_HEADS)
def test_a_large_head_is_a_431_also_when_it_comes_whole(gateway: Gateway, headers: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        try:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
            answer = everything(client)
        except OSError:
            return  # it was cut while it was still talking
    assert answer.startswith(b"HTTP/1.1 431 ") or (not answer and len(headers) > 65_536)


def test_two_lengths_of_one_body_are_no_http(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as client:
        client.sendall(
            b"POST /v1/communicate/email HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\n"
        )
        assert everything(client).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_does_not_come_is_a_408(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(CONFIG.replace("body_timeout = 50.0", "body_timeout = 0.3"))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=60) as client:
        client.sendall(
            b"POST /v1/communicate/email HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            b"Auth-token: " + gateway.key.encode() + b"\r\n\r\n{"
        )
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "too_slow"


def test_a_client_that_hangs_up_in_the_middle_costs_nothing_but_its_line_in_the_log(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(
            b"POST /v1/communicate/email HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nX-Request-Id: hung-up-1\r\n"
            b"Expect: 100-continue\r\nAuth-token: " + gateway.key.encode() + b"\r\n\r\n"
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")  # it reads the body
        client.sendall(b"{")
    for _ in range(1000):
        lines = [line for line in gateway.log.splitlines() if "hung-up-1" in line]
        if lines:
            break
        time.sleep(0.05)
    assert [json.loads(line)["status"] for line in lines] == [499]
    assert gateway.get("/healthz").status == 200


def test_nothing_of_all_that_broke_anything(gateway: Gateway) -> None:
    assert gateway.get("/healthz").status == 200
    assert "Traceback" not in gateway.log


def everything(client: socket.socket) -> bytes:
    received = b""
    while True:
        try:
            piece = client.recv(65536)
        except ConnectionResetError:
            return received
        if not piece:
            return received
        received += piece


def peak_memory(gateway: GatewayProcess) -> int:
    with open(f"/proc/{gateway.process.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"twilio_sid": "AC1", "twilio_auth_tokn": "x"}, "options.twilio_auth_tokn"),
        ({"twilio_sid": f"AC{'0' * 32}"}, "options"),
        ({"vonage_application_id": "a", "vonage_private_key": "/etc/passwd"}, "options.private_key"),
        (
            {"vonage_application_id": "a", "vonage_private_key": "-----BEGIN PRIVATE KEY-----\nAA"},
            "options.private_key",
        ),
    ],
)
def test_credentials_in_a_form_that_the_provider_does_not_take_are_refused_at_acceptance(
    gateway: Gateway, options: dict[str, str], field: str
) -> None:
    provider = next(iter(options)).partition("_")[0]
    body = {
        "provider": provider,
        "options": options,
        "data": {"to": "+447700900123", "from": "+15005550006", "body": "Hi"},
    }
    reply = gateway.post("/v1/communicate/sms", body)
    assert reply.status == 400, reply.body
    assert [problem["field"] for problem in reply.json["details"]] == [field]
