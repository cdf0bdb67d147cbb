"""What providers and recipients tell the service: signed reports, STOP, one click; and what follows from it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import hmac
import http.client
import json
import re
import select
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from postroom.client import Postroom
from postroom.gateway.app import open_gateway
from postroom.gateway.http.body import STRANGERS_TOGETHER
from postroom.messages import Email
from postroom.testing.http import Answer, Drop, HttpRecorder, RecordedRequest, Step

if TYPE_CHECKING:
    from tests.integration.conftest import Gateway, Reply, ServeGateway


ON_EVERY_ENGINE = True

TOKEN = "twilio-token-0123456789abcdef0123"
PUBLIC = "https://post.example.org"

CONFIG = f"""
[defaults]
email = "box"
sms = "box"
[accounts.box]
provider = "memory"
from = "desk@example.org"
[accounts.texts]
provider = "twilio"
account_sid = "AC00000000000000000000000000000000"
auth_token = "{TOKEN}"
from = "+15005550006"
[gateway]
rate_limit = []
public_url = "{PUBLIC}"
"""


@pytest.fixture(scope="module")
def gateway(serve_gateway: ServeGateway) -> Gateway:
    return serve_gateway(CONFIG)


def signed(path: str, fields: Any, token: str = TOKEN) -> str:
    """The header Twilio signs a form with: HMAC-SHA1 over the address and the sorted fields."""
    text = f"{PUBLIC}{path}" + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), hashlib.sha1)).decode()


def report(gateway: Gateway, fields: Any, *, account: str = "texts", **more: Any) -> Reply:
    path = f"/v1/webhooks/{account}"
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signed(path, fields, **more)}
    return gateway.post(path, urlencode(fields).encode(), key=None, headers=headers)


def inbound(text: str, sid: str = "SM" + "1" * 32, sender: str = "+447700900111") -> dict[str, str]:
    return {"MessageSid": sid, "SmsSid": sid, "From": sender, "To": "+15005550006", "Body": text, "NumMedia": "0"}


@pytest.fixture(scope="module")
def trusted(gateway: Gateway) -> str:
    """A key that may see and change who is not written to."""
    return gateway.another_key("--suppressions")


def suppressed(gateway: Gateway, key: str) -> list[str]:
    return [entry["address"] for entry in gateway.get("/v1/suppressions?limit=500", key=key).json["suppressions"]]


def settled(gateway: Gateway, id_: str) -> dict[str, Any]:
    return gateway.settled(id_)


def test_stop_by_sms_suppresses_its_sender_and_start_lifts_it(gateway: Gateway) -> None:
    assert report(gateway, inbound("Stop.")).status == 200
    answer = gateway.post("/v1/communicate/sms", {"to": "+447700900111", "body": "hi"})
    assert answer.status == 202
    assert settled(gateway, answer.json["id"])["status"] == "suppressed"
    assert report(gateway, inbound("START", sid="SM" + "2" * 32)).status == 200
    answer = gateway.post("/v1/communicate/sms", {"to": "+447700900111", "body": "hi"})
    assert settled(gateway, answer.json["id"])["status"] == "sent"


def test_the_answer_is_what_every_provider_takes_for_a_yes(gateway: Gateway) -> None:
    answer = report(gateway, inbound("hello", sid="SM" + "3" * 32))
    assert (answer.status, answer.headers["content-type"], answer.body) == (
        200,
        "text/xml; charset=utf-8",
        b"<Response/>",
    )


def test_a_report_that_is_repeated_changes_nothing(gateway: Gateway, trusted: str) -> None:
    first = inbound("STOP", sid="SM" + "4" * 32, sender="+447700900222")
    assert [report(gateway, first).status for _ in range(3)] == [200] * 3
    assert suppressed(gateway, trusted).count("+447700900222") == 1


@pytest.mark.parametrize(("order", "stopped"), [("STOP START STOP", False), ("START STOP START", True)])
def test_a_report_that_is_replayed_does_not_undo_what_was_said_since(
    gateway: Gateway, trusted: str, order: str, stopped: bool
) -> None:
    sender = f"+44770090055{int(stopped)}"
    for word in order.split():
        sid = f"SM{word}{int(stopped)}".ljust(34, "0")
        assert report(gateway, inbound(word, sid=sid, sender=sender)).status == 200
    assert (sender in suppressed(gateway, trusted)) is stopped


@pytest.mark.parametrize("token", ["another-token", TOKEN[:-1]])
def test_a_report_with_a_wrong_signature_is_refused_and_nothing_is_kept(
    gateway: Gateway, trusted: str, token: str
) -> None:
    answer = report(gateway, inbound("STOP", sid="SM" + "5" * 32, sender="+447700900333"), token=token)
    assert (answer.status, answer.json["error"]) == (403, "signature_invalid")
    assert "+447700900333" not in suppressed(gateway, trusted)


def test_a_report_without_a_signature_is_refused(gateway: Gateway, trusted: str) -> None:
    body = urlencode(inbound("STOP", sender="+447700900444")).encode()
    answer = gateway.post(
        "/v1/webhooks/texts", body, key=None, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert answer.status == 403
    assert "+447700900444" not in suppressed(gateway, trusted)


def test_a_stranger_is_not_told_which_accounts_exist(gateway: Gateway) -> None:
    there, not_there = "texts", ("nobody", "box", "texts2")
    answers = [
        report(gateway, inbound("STOP"), token="wrong"),
        gateway.post(f"/v1/webhooks/{there}", b"a=b", key=None),
        *(report(gateway, inbound("STOP"), account=account) for account in not_there),
        *(gateway.post(f"/v1/webhooks/{account}", b"a=b", key=None) for account in not_there),
    ]
    assert {(answer.status, answer.body) for answer in answers} == {(403, answers[0].body)}


@pytest.mark.parametrize("account", ["texts", "nobody", "box", "texts2"])
def test_a_report_that_says_it_is_too_large_gets_the_same_answer_everywhere(gateway: Gateway, account: str) -> None:
    with contextlib.closing(half_a_report(gateway, account, b"", Content_Length="1100000")) as client:
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 413
        assert json.loads(answer.read())["message"] == "The body is larger than 1,048,576 bytes."


def half_a_report(gateway: Gateway, account: str, body: bytes, **headers: str) -> socket.socket:
    """Send a report whose body never ends."""
    client = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
    lines = {"Host": "x", "Content_Length": "1048576", "X_Twilio_Signature": "x"} | headers
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    client.sendall(f"POST /v1/webhooks/{account} HTTP/1.1\r\n{head}\r\n".encode() + body)
    return client


def test_a_stranger_who_holds_a_body_back_learns_nothing_either(gateway: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(contextlib.closing(half_a_report(gateway, account, b"a=b")))
            for account in ("texts", "nobody", "box")
        ]
        for _ in range(3):
            assert gateway.get("/healthz").status == 200  # an answer that was there already would have come by now
        assert select.select(clients, [], [], 0)[0] == []


SMALL = CONFIG.replace("rate_limit = []", "rate_limit = []\nmax_body = 2_000_000\nmax_bodies = 4_000_000")


def test_bodies_that_strangers_hold_open_take_nothing_from_callers(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(SMALL, work=False)
    packed = gzip.compress(b"\0" * 1_000_000)[:-8]
    with contextlib.ExitStack() as stack:
        for account in ["anything"] * 5 + ["texts"] * 5:
            stack.enter_context(contextlib.closing(half_a_report(gateway, account, packed, Content_Encoding="gzip")))
        assert gateway.get("/healthz").status == 200
        body = {"to": [{"email": "ann@example.org"}], "subject": "Hi", "text": "x" * 1_500_000}
        assert gateway.post("/v1/communicate/email", body).status == 202


def test_where_strangers_hold_all_that_is_for_them_open_a_report_still_gets_in(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(CONFIG, work=False)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(contextlib.closing(half_a_report(gateway, "texts", b"x" * 1_000_000)))
            for _ in range(STRANGERS_TOGETHER // 1_000_000 + 5)
        ]
        answered = select.select(clients, [], [], 30)[0]
        assert answered, "none of them was cut"
        assert answered[0].recv(100).startswith(b"HTTP/1.1 408 ")
        assert report(gateway, inbound("hello", sid="SM" + "7" * 32)).status == 200


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "lost"])
@pytest.mark.parametrize(("told", "status"), [("delivered", "delivered"), ("undelivered", "bounced")])
async def test_a_callback_that_comes_before_the_sid_is_known_is_what_the_message_ends_as(
    serve_gateway: ServeGateway, told: str, status: str, answered: bool
) -> None:
    """Twilio calls back while its answer is on the way, or lost; then the SID is found in its list."""
    sid, number = "SM" + "7" * 32, "+447700900777"
    about = {"to": number, "from": "+15005550006", "body": "hi", "direction": "outbound-api", "status": told}
    listed: list[dict[str, str]] = []

    def step(request: RecordedRequest) -> Step:
        if request.method == "GET":
            return Answer(200, {"messages": listed, "next_page_uri": None})
        listed.append({**about, "sid": sid, "date_created": format_datetime(datetime.now(UTC))})
        assert report(service, {"MessageSid": sid, "MessageStatus": told, "To": number}).status == 200
        return Answer(201, {"sid": sid}) if answered else Drop("request")

    async with HttpRecorder() as twilio:
        twilio.answer_with(step)
        config = CONFIG.replace("auth_token", f'base_url = "{twilio.url}"\nauth_token')
        service = await asyncio.to_thread(serve_gateway, config)
        text = {"to": number, "body": "hi", "provider": "texts"}
        accepted = await asyncio.to_thread(service.post, "/v1/communicate/sms", text)
        assert accepted.status == 202, accepted.body
        waits = ("queued", "sending", "in_doubt")
        shown = await asyncio.to_thread(lambda: service.settled(accepted.json["id"], but_not=waits))
        assert shown["status"] == status
        assert sum(request.method == "POST" for request in twilio.requests) == 1
        await asyncio.to_thread(service.stop)


def marketing(gateway: Gateway, to: Any) -> str:
    body = {"to": to, "subject": "News", "text": "news", "category": "marketing"}
    answer = gateway.post("/v1/communicate/email", body)
    assert answer.status == 202, answer.body
    message_id: str = answer.json["id"]
    return message_id


def headers_for(gateway: Gateway, address: str | list[str]) -> Mapping[str, str]:
    """The headers that mail to `address` carries, made by the service's own parts."""

    async def added() -> Mapping[str, str]:
        room = Postroom.from_config(gateway.folder / "postroom.toml")
        async with open_gateway(room, work=False) as service:
            email = Email(to=address, subject="News", text="news", category="marketing")
            return service.unsubscribe_links.add_to(email).headers

    with contextlib.chdir(gateway.folder):
        return asyncio.run(added())


def token_for(gateway: Gateway, address: str) -> str:
    found = re.search(r"/v1/unsubscribe/([\w\-]+)", headers_for(gateway, address)["List-Unsubscribe"])
    assert found
    return found[1]


def test_one_click_ends_marketing_mail_and_nothing_else(gateway: Gateway) -> None:
    headers = headers_for(gateway, "ann@example.org")
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    found = re.fullmatch(rf"<{PUBLIC}(/v1/unsubscribe/[\w\-]+)>", headers["List-Unsubscribe"])
    assert found
    link = found[1]
    page = gateway.get(link, key=None)
    assert page.status == 200
    assert b"ann@example.org" in page.body
    assert settled(gateway, marketing(gateway, "ann@example.org"))["status"] == "sent"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert gateway.post(link, b"List-Unsubscribe=One-Click", key=None, headers=form).status == 200
    assert settled(gateway, marketing(gateway, "Ann@Example.org"))["status"] == "suppressed"
    body = {"to": "ann@example.org", "subject": "Invoice", "text": "x"}
    invoice = gateway.post("/v1/communicate/email", body).json["id"]
    assert settled(gateway, invoice)["status"] == "sent"


def test_mail_to_several_carries_no_link_since_it_would_be_one_persons(gateway: Gateway) -> None:
    assert headers_for(gateway, ["ann@example.org", "ben@example.org"]) == {}


@pytest.mark.parametrize(
    "change",
    [lambda t: t[:-1], lambda t: ("B" if t[0] == "A" else "A") + t[1:], lambda t: "x"],
    ids=["cut", "other", "made up"],
)
def test_a_link_that_was_changed_unsubscribes_nobody(
    gateway: Gateway, trusted: str, change: Callable[[str], str]
) -> None:
    link = token_for(gateway, "eve@example.org")
    for ask in (gateway.get, lambda path, **more: gateway.post(path, b"", **more)):
        assert ask(f"/v1/unsubscribe/{change(link)}", key=None).status == 404
    assert "eve@example.org" not in suppressed(gateway, trusted)


def test_a_key_with_the_right_to_it_changes_the_list_and_others_may_not_even_see_it(
    gateway: Gateway, trusted: str
) -> None:
    body = {"channel": "email", "address": " Dead@Example.org ", "detail": "no such mailbox"}
    assert gateway.post("/v1/suppressions", body).status == 403
    assert gateway.get("/v1/suppressions").status == 403
    assert gateway.post("/v1/suppressions", body, key=trusted).json["address"] == "dead@example.org"
    assert (
        settled(gateway, gateway.post("/v1/communicate/email", {"to": "dead@example.org", "text": "x"}).json["id"])[
            "status"
        ]
        == "suppressed"
    )
    assert gateway.post("/v1/suppressions", {**body, "lifted": True}, key=trusted).json["lifted"] is True
    assert "dead@example.org" not in suppressed(gateway, trusted)


def test_the_list_comes_in_pages(gateway: Gateway, trusted: str) -> None:
    for number in range(5):
        for category in ("", "marketing"):
            body = {"channel": "email", "address": f"page{number}@example.org", "category": category}
            assert gateway.post("/v1/suppressions", body, key=trusted).status == 200
    found, after = [], ""
    while after is not None:
        page = gateway.get(f"/v1/suppressions?{urlencode({'limit': 3, 'after': after})}", key=trusted).json
        found += [(entry["address"], entry["category"]) for entry in page["suppressions"]]
        after = page["next"]
    assert len([one for one in found if one[0].startswith("page")]) == 10
    assert len(found) == len(set(found))


@pytest.mark.parametrize("address", ["+44 7700 900503", "+447700900503"])
def test_a_number_is_listed_as_messages_have_it_however_it_is_written(
    gateway: Gateway, trusted: str, address: str
) -> None:
    answer = gateway.post("/v1/suppressions", {"channel": "sms", "address": address}, key=trusted)
    assert (answer.status, answer.json["address"]) == (200, "+447700900503")
    sent = gateway.post("/v1/communicate/sms", {"to": "+447700900503", "body": "x"}).json["id"]
    assert settled(gateway, sent)["status"] == "suppressed"


@pytest.mark.parametrize(
    ("channel", "address"), [("sms", "nonsense"), ("sms", "bob@example.org"), ("email", "nonsense"), ("email", "a@b@c")]
)
def test_what_nothing_can_be_sent_to_is_not_listed(gateway: Gateway, trusted: str, channel: str, address: str) -> None:
    answer = gateway.post("/v1/suppressions", {"channel": channel, "address": address}, key=trusted)
    assert (answer.status, answer.json["details"][0]["field"]) == (400, "address")
    assert address not in suppressed(gateway, trusted)


def test_the_log_holds_no_link_no_text_of_anybody_and_no_line_that_a_path_forged(gateway: Gateway) -> None:
    link = token_for(gateway, "secret@example.org")
    assert gateway.get(f"/v1/unsubscribe/{link}", key=None).status == 200
    assert gateway.get("/v1/webhooks/texts?Body=private+words", key=None).status == 403
    assert gateway.post("/v1/webhooks/no%0Aforged%20line", b"x", key=None).status == 403
    assert "/v1/unsubscribe/***" in gateway.log
    assert "/v1/webhooks/texts" in gateway.log
    for hidden in (link, "private", "\nforged line"):
        assert hidden not in gateway.log


HALF = """
[accounts.half]
provider = "twilio"
account_sid = "AC00000000000000000000000000000000"
auth_token = { env = "NOT_SET_ANYWHERE" }
"""


def test_what_is_wrong_with_an_account_is_told_to_the_log_and_not_to_who_calls(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(HALF, work=False)  # which is not stopped by what only workers need
    answer = report(gateway, inbound("STOP"), account="half")
    assert (answer.status, answer.json["error"]) == (403, "signature_invalid")
    assert "half" not in answer.json["message"]
    assert "accounts.half.auth_token" in gateway.log
