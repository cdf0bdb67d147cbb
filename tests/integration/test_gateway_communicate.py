"""The four endpoints as the API's page shows them, over a socket, to a real SMTP server and the vendors' wire."""

from __future__ import annotations

import base64
import email
import json
import re
from email import policy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from aiosmtpd.smtp import Envelope

if TYPE_CHECKING:
    from tests.integration.conftest import Gateway, Mailbox, ServeGateway


SAMPLES = Path(__file__).parents[1] / "unit" / "gateway" / "samples"
BUFFER = {"type": "Buffer", "data": list(b"%PDF-1.7")}


def config(port: int) -> str:
    return f"""
[defaults]
email = "mail"
sms = "texts"
[accounts.mail]
provider = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
from = "Desk <desk@example.org>"
[accounts.texts]
provider = "memory"
from = "+15005550006"
[accounts.twilio]
provider = "twilio"
account_sid = "AC00000000000000000000000000000000"
auth_token = "secret"
base_url = "http://127.0.0.1:9"
from = "+15005550006"
[gateway]
rate_limit = "1000/s"
max_recipients = 50
max_attachments = 5
max_batch = 20
"""


@pytest.fixture(scope="module")
def gateway(serve_gateway: ServeGateway, smtp_server: Mailbox) -> Gateway:
    return serve_gateway(config(smtp_server.port))


def sample(name: str) -> str:
    """A sample as the API's page prints it; those of SMS are no JSON."""
    return next(SAMPLES.glob(f"{name}.*")).read_text()


def as_json(text: str) -> Any:
    """What the commented samples mean."""
    return json.loads(re.sub(r"//.*", "", text).replace("'", '"'))


def arrived(envelope: Envelope) -> Any:
    assert envelope.original_content
    return email.message_from_bytes(envelope.original_content, policy=policy.default)


def one_email(**fields: Any) -> dict[str, Any]:
    return {"to": [{"email": "john@example.com"}], "subject": "Hello", "html": "<p>Hi</p>", **fields}


def test_the_sample_email_reaches_an_smtp_server_and_its_receipt_says_how(gateway: Gateway, mailbox: Mailbox) -> None:
    reply = gateway.post("/v1/communicate/email", sample("email").encode())
    assert reply.status == 202
    assert reply.json["status"] == "queued"
    assert reply.json["recipients"] == [{"address": "john@example.com", "status": "queued"}]
    shown = gateway.settled(reply.json["id"])
    assert shown["status"] == "sent"
    assert shown["provider_message_id"]
    assert [attempt["account"] for attempt in shown["attempts"]] == ["mail"]
    [envelope] = mailbox.wait()
    message = arrived(envelope)
    assert envelope.rcpt_tos == ["john@example.com"]
    assert message["From"] == "Example Name <desk@example.org>"
    assert message["Reply-To"] == "message.reply@example.com"
    assert message["Subject"] == "My subject"
    assert "<p>Hi John 1</p>" in message.get_body(("html",)).get_content()


def test_the_sample_batch_of_emails_arrives_whole(gateway: Gateway, mailbox: Mailbox) -> None:
    reply = gateway.post("/v1/communicate/email/batch", sample("email_batch").encode())
    assert reply.status == 202
    assert (reply.json["accepted"], reply.json["rejected"]) == (2, 0)
    assert [item["index"] for item in reply.json["results"]] == [0, 1]
    bodies = {arrived(e).get_body(("html",)).get_content().strip() for e in mailbox.wait(2)}
    assert bodies == {"<p>Hi John 1</p>", "<p>Hi John Doe</p>"}


@pytest.mark.parametrize(("name", "path"), [("sms", "sms"), ("sms_batch", "sms/batch")])
def test_a_sample_sms_as_printed_is_no_json_and_the_answer_points_at_the_place(
    gateway: Gateway, name: str, path: str
) -> None:
    reply = gateway.post(f"/v1/communicate/{path}", sample(name).encode())
    assert reply.status == 400
    assert reply.json["error"] == "invalid_json"
    line = sample(name).splitlines()[reply.json["line"] - 1]
    assert line[reply.json["column"] - 1] == "'"
    assert f"line {reply.json['line']}, column {reply.json['column']}" in reply.json["message"]
    assert "double quotes" in reply.json["message"]


def test_a_sample_sms_with_only_its_comments_left_is_told_that_json_has_none(gateway: Gateway) -> None:
    reply = gateway.post("/v1/communicate/sms", sample("sms").replace("'", '"').encode())
    assert reply.status == 400
    assert "comments" in reply.json["message"]


@pytest.mark.parametrize(("name", "path", "count"), [("sms", "sms", 1), ("sms_batch", "sms/batch", 2)])
def test_a_sample_sms_as_it_is_meant_is_accepted(gateway: Gateway, name: str, path: str, count: int) -> None:
    body = as_json(sample(name))
    for sms in body.get("sms", [body]):
        sms["data"]["from"] = "+15005550006"
        sms["data"]["to"] = "+447700900123"
    reply = gateway.post(f"/v1/communicate/{path}", body)
    assert reply.status == 202
    assert len(reply.json.get("results", [reply.json])) == count


def test_recipients_by_type_headers_attachments_and_images_arrive_as_they_mean(
    gateway: Gateway, mailbox: Mailbox
) -> None:
    body = one_email(
        to=[
            {"email": "a@example.com", "type": "to", "name": "Ann"},
            {"email": "b@example.com", "type": "cc", "name": ""},
            {"email": "c@example.com", "type": "bcc"},
        ],
        html='<p>Hi <img src="cid:logo"></p>',
        headers={"X-My-Custom-Header": "value"},
        attachments=[
            {"name": "plain.txt", "type": "text/plain", "content": "Hello Wörld"},
            {"name": "b64.bin", "type": "application/octet-stream", "content": "AAEC", "encoding": "base64"},
            {"name": "hex.bin", "type": "application/octet-stream", "content": "000102", "encoding": "hex"},
            {"name": "raw.bin", "type": "application/octet-stream", "content": "\x00\xff", "encoding": "binary"},
            {"name": "node.pdf", "type": "application/pdf", "content": BUFFER},
        ],
        images=[{"name": "logo", "type": "image/png", "content": base64.b64encode(b"\x89PNG").decode()}],
    )
    assert gateway.post("/v1/communicate/email", body).status == 202
    [envelope] = mailbox.wait()
    message = arrived(envelope)
    assert sorted(envelope.rcpt_tos) == ["a@example.com", "b@example.com", "c@example.com"]
    assert (message["To"], message["Cc"], message["Bcc"]) == ("Ann <a@example.com>", "b@example.com", None)
    assert message["X-My-Custom-Header"] == "value"
    files = {part.get_filename(): part.get_payload(decode=True) for part in message.walk() if part.get_filename()}
    assert files["plain.txt"] == "Hello Wörld".encode()
    assert files["b64.bin"] == files["hex.bin"] == b"\x00\x01\x02"
    assert files["raw.bin"] == b"\x00\xff"
    assert files["node.pdf"] == b"%PDF-1.7"
    [image] = [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert image["Content-ID"] == "<logo>"
    assert image.get_payload(decode=True) == b"\x89PNG"


def test_a_url_encoded_email_arrives_like_the_same_in_json(gateway: Gateway, mailbox: Mailbox) -> None:
    fields = {"to[0][email]": "john@example.com", "to[0][type]": "to", "html": "<p>Hi & bye</p>", "subject": "Übung"}
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = gateway.post("/v1/communicate/email", urlencode(fields).encode(), headers=kind)
    assert reply.status == 202
    [envelope] = mailbox.wait()
    assert arrived(envelope)["Subject"] == "Übung"


def test_what_curl_calls_url_encoded_though_it_is_json_is_read_as_json(gateway: Gateway) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    body = json.dumps(one_email()).encode()
    assert gateway.post("/v1/communicate/email", body, headers=kind).status == 202


@pytest.mark.parametrize(
    "body",
    [
        {"to": "+447700900123", "body": "flat"},
        {"data": {"to": ["+447700900123", "+447700900124"], "body": "a list"}, "required": True},
        {"data": {"to": "+447700900123", "body": "x"}, "options": {"required": "true"}, "unknown": [1]},
        {"provider": "texts", "data": {"to": "+447700900123", "from": "", "body": "x"}},
    ],
)
def test_an_sms_in_any_of_its_shapes_is_accepted(gateway: Gateway, body: Any) -> None:
    reply = gateway.post("/v1/communicate/sms", body)
    assert reply.status == 202
    assert gateway.settled(reply.json["id"])["status"] == "sent"


def test_a_batch_takes_wrapped_items_and_a_bad_one_spoils_no_other(gateway: Gateway, mailbox: Mailbox) -> None:
    items = [
        {"options": one_email(subject="wrapped"), "data": {"name": "x"}},
        {"options": {"email": "a@b.example", "subject": "no to"}},
        "text",
        one_email(provider="nobody"),
        one_email(subject="last"),
    ]
    reply = gateway.post("/v1/communicate/email/batch", {"emails": items})
    assert reply.status == 202
    assert (reply.json["accepted"], reply.json["rejected"]) == (2, 3)
    codes = [item.get("error") for item in reply.json["results"]]
    assert codes == [None, "invalid_message", "invalid_message", "provider_not_found", None]
    assert {arrived(e)["Subject"] for e in mailbox.wait(2)} == {"wrapped", "last"}


def test_a_batch_of_bad_items_only_is_a_400_that_tells_of_each(gateway: Gateway) -> None:
    reply = gateway.post("/v1/communicate/sms/batch", {"sms": [{}, {"data": {"to": "12"}}]})
    assert reply.status == 400
    assert reply.json["error"] == "invalid_batch"
    assert [item["error"] for item in reply.json["results"]] == ["invalid_message", "invalid_message"]


@pytest.mark.parametrize("body", [{}, {"emails": []}, {"emails": {"to": "x"}}, {"emails": "x"}])
def test_a_batch_without_a_list_names_the_field(gateway: Gateway, body: Any) -> None:
    reply = gateway.post("/v1/communicate/email/batch", body)
    assert reply.status == 400
    assert reply.json["details"][0]["field"] == "emails"


def test_the_same_idempotency_key_makes_one_message_and_gives_the_same_answer(
    gateway: Gateway, mailbox: Mailbox
) -> None:
    named = {"Idempotency-Key": "order-1"}
    first = gateway.post("/v1/communicate/email", one_email(), headers=named)
    gateway.settled(first.json["id"])
    again = gateway.post("/v1/communicate/email", one_email(), headers=named)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.headers["Idempotency-Replayed"] is None
    other = gateway.post("/v1/communicate/email", one_email(subject="Other"), headers=named)
    assert other.status == 422
    assert other.json["error"] == "idempotency_conflict"
    assert len(mailbox.envelopes) == 1


def test_a_batch_with_an_idempotency_key_is_repeated_item_by_item(gateway: Gateway, mailbox: Mailbox) -> None:
    named = {"Idempotency-Key": '"batch-1"'}
    body = {"emails": [one_email(), one_email(subject="Second")]}
    first = gateway.post("/v1/communicate/email/batch", body, headers=named)
    again = gateway.post("/v1/communicate/email/batch", body, headers=named)
    assert first.json == again.json
    mailbox.wait(2)
    assert len(mailbox.envelopes) == 2
