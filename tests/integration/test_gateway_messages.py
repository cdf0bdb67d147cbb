"""Looking messages up and deciding about them, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Gateway, ServeGateway


ON_EVERY_ENGINE = True

CONFIG = """
[defaults]
email = "box"
sms = "texts"
[accounts.box]
provider = "memory"
from = "desk@example.org"
[accounts.texts]
provider = "memory"
from = "+15005550006"
[gateway]
rate_limit = []
"""


def one_email(**fields: Any) -> dict[str, Any]:
    return {"to": [{"email": "john@example.com"}], "subject": "Hello", "html": "<p>Hi</p>", **fields}


@pytest.fixture(scope="module")
def gateway(serve_gateway: ServeGateway) -> Gateway:
    return serve_gateway(CONFIG)


@pytest.fixture(scope="module")
def waiting(serve_gateway: ServeGateway) -> Gateway:
    return serve_gateway(CONFIG, work=False)


def accepted(gateway: Gateway, **fields: Any) -> str:
    message_id: str = gateway.post("/v1/communicate/email", one_email(**fields)).json["id"]
    return message_id


def test_a_message_shows_all_but_its_contents(gateway: Gateway) -> None:
    id_ = accepted(gateway, html="<p>contents-canary</p>")
    shown = gateway.settled(id_)
    assert shown["id"] == id_
    assert shown["recipients"][0]["address"] == "john@example.com"
    assert shown["attempts"][0]["account"] == "box"
    assert shown["settled_at"] >= shown["created_at"]
    assert "contents-canary" not in repr(shown)


def test_pages_lead_through_all_messages_newest_first_each_once(waiting: Gateway) -> None:
    sent = [accepted(waiting, subject=f"page {number}") for number in range(7)]
    seen, cursor = [], ""
    while True:
        page = waiting.get(f"/v1/messages?limit=3{cursor}").json
        seen += [line["id"] for line in page["messages"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen[-7:] == sent[::-1] if len(seen) == 7 else set(sent) <= set(seen)
    assert len(seen) == len(set(seen))


def test_filters_choose_by_status_channel_account_recipient_and_time(gateway: Gateway) -> None:
    mail = accepted(gateway, to=[{"email": "filtered@example.com"}])
    text = gateway.post("/v1/communicate/sms", {"to": "+447700900199", "body": "x"}).json["id"]
    gateway.settled(mail)
    gateway.settled(text)

    def found(query: str) -> set[str]:
        return {line["id"] for line in gateway.get(f"/v1/messages?{query}").json["messages"]}

    assert text in found("channel=sms")
    assert mail not in found("channel=sms")
    assert found("to=filtered%40example.com") == {mail}
    assert found("account=texts&to=%2B447700900199") == {text}
    assert {mail, text} <= found("status=sent,delivered")
    assert not found("status=failed") & {mail, text}
    assert not found("since=2099-01-01T00:00:00Z")
    assert not found("until=2020-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=lost", "status.0"), ("channel=fax", "channel"), ("since=yesterday", "since"), ("limit=0", "limit"),
        ("limit=501", "limit"), ("cursor=!!", "cursor"), ("cursor=_w", "cursor"), ("colour=red", "colour"),
        ("cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "cursor"), ("since=2026-01-01T00:00:00", "since"),
        ("limit=1&limit=2", "limit"),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_named(gateway: Gateway, query: str, field: str | None) -> None:
    reply = gateway.get(f"/v1/messages?{query}")
    assert (reply.status, reply.json["error"]) == (400, "invalid_request")
    assert reply.json["details"][0]["field"] == field


def test_a_waiting_message_is_cancelled_once(waiting: Gateway) -> None:
    id_ = accepted(waiting)
    assert waiting.post(f"/v1/messages/{id_}/cancel").json["status"] == "cancelled"
    again = waiting.post(f"/v1/messages/{id_}/cancel")
    assert (again.status, again.json["error"]) == (409, "state_conflict")
    assert waiting.post(f"/v1/messages/{id_}/retry").json["status"] == "queued"


def test_a_scheduled_message_waits_for_its_time(waiting: Gateway) -> None:
    reply = waiting.post("/v1/communicate/email", one_email(send_at="2099-01-01T00:00:00Z"))
    assert reply.json["status"] == "scheduled"
    assert waiting.get(f"/v1/messages/{reply.json['id']}").json["due_at"].startswith("2099-01-01")


def test_only_a_message_in_doubt_is_resolved(waiting: Gateway) -> None:
    id_ = accepted(waiting)
    reply = waiting.post(f"/v1/messages/{id_}/resolve", {"outcome": "sent"})
    assert (reply.status, reply.json["error"]) == (409, "state_conflict")
    wrong = waiting.post(f"/v1/messages/{id_}/resolve", {"outcome": "perhaps"})
    assert (wrong.status, wrong.json["details"][0]["field"]) == (400, "outcome")


def test_a_sent_message_cannot_be_cancelled(gateway: Gateway) -> None:
    id_ = accepted(gateway)
    gateway.settled(id_)
    assert gateway.post(f"/v1/messages/{id_}/cancel").status == 409
