"""What a key has sent again, by `retry` or `resolve`: it counts against its limits as a new message does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Gateway, ServeGateway

ACCOUNTS = """
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
"""

EMAIL = {"to": [{"email": "john@example.com"}], "html": "<p>Hi</p>"}


def sms(to: Any = "+447700900123", body: Any = "Hi") -> dict[str, Any]:
    return {"data": {"to": to, "body": body}}


def set_status(gateway: Gateway, id_: str, status: str) -> None:
    """Let a message be as hours of attempts would leave it."""
    with closing(sqlite3.connect(gateway.folder / "postroom.db")) as outbox, outbox:
        outbox.execute("UPDATE messages SET status = ? WHERE id = ?", (status, id_))


@pytest.mark.parametrize("limit", ["quota", "message_limit", "sms_budget", "sms_per_recipient", "sms_per_number"])
@pytest.mark.parametrize("status", ["cancelled", "failed", "in_doubt"])
def test_what_is_sent_again_counts_as_a_new_message(serve_gateway: ServeGateway, limit: str, status: str) -> None:
    gateway = serve_gateway(ACCOUNTS + f'rate_limit = []\n{limit} = "4/d"\n', work=False)
    ids = [gateway.post("/v1/communicate/sms", sms()).json["id"] for _ in range(3)]
    for id_ in ids:
        set_status(gateway, id_, status)
    path, body = ("resolve", {"outcome": "retry"}) if status == "in_doubt" else ("retry", None)
    again = [gateway.post(f"/v1/messages/{id_}/{path}", body) for id_ in ids]
    if limit == "message_limit":
        assert [reply.status for reply in again] == [200, 429, 429]
        assert gateway.get(f"/v1/messages/{ids[2]}").json["status"] == status
    else:
        at_once = "retrying" if status == "in_doubt" else "queued"
        assert [reply.json["status"] for reply in again] == [at_once, "held", "held"]
        assert gateway.post(f"/v1/messages/{ids[1]}/retry").status == 409, "nor does it get free by being asked again"
        assert gateway.post(f"/v1/messages/{ids[1]}/cancel").json["status"] == "cancelled"
        assert gateway.post(f"/v1/messages/{ids[1]}/retry").json["status"] == "held"


def test_what_is_not_sent_again_is_not_counted_again(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(ACCOUNTS + 'quota = "3/d"\n', work=False)
    ids = [gateway.post("/v1/communicate/email", EMAIL).json["id"] for _ in range(2)]
    for id_, status in zip(ids, ("sent", "in_doubt"), strict=True):
        set_status(gateway, id_, status)
    assert gateway.post(f"/v1/messages/{ids[0]}/retry").status == 409
    assert gateway.post(f"/v1/messages/{ids[1]}/resolve", {"outcome": "failed"}).json["status"] == "failed"
    assert gateway.post("/v1/communicate/email", EMAIL).json["status"] == "queued", "there is still room for one"
