"""How much a key may do: requests, messages, quotas, and what guards SMS against misuse."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Gateway, ServeGateway


ON_EVERY_ENGINE = True

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


def statuses(gateway: Gateway, count: int, body: Any = EMAIL, path: str = "email") -> list[int]:
    return [gateway.post(f"/v1/communicate/{path}", body).status for _ in range(count)]


def test_twenty_requests_go_through_and_the_next_is_told_when_to_come_again(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(ACCOUNTS)
    first = gateway.post("/v1/communicate/email", EMAIL)
    assert first.headers["RateLimit-Policy"] == '"default";q=20;w=30'
    assert first.headers["RateLimit"].startswith('"default";r=19;')
    assert statuses(gateway, 19) == [202] * 19
    asked = time.time()
    reply = gateway.post("/v1/communicate/email", EMAIL)
    assert reply.status == 429
    assert reply.json["error"] == "rate_limited"
    wait = int(reply.headers["Retry-After"])
    assert 1 <= wait <= 31
    again = datetime.fromisoformat(reply.json["nextValidRequestDate"])
    assert again.tzinfo == UTC
    assert 0 < again.timestamp() - asked <= 31
    assert reply.json["nextValidRequestDate"].endswith("Z")
    assert reply.json["referenceUrl"]
    assert "please try again in" in reply.json["message"]
    assert gateway.get("/v1/messages").status == 200


def test_a_client_that_waits_as_it_is_told_gets_through(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(ACCOUNTS + 'rate_limit = "2/4s"\n')
    assert statuses(gateway, 2) == [202, 202]
    reply = gateway.post("/v1/communicate/email", EMAIL)
    assert reply.status == 429
    time.sleep(int(reply.headers["Retry-After"]))
    assert gateway.post("/v1/communicate/email", EMAIL).status == 202


def test_another_key_has_a_limit_of_its_own(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(ACCOUNTS + 'rate_limit = "1/m"\n')
    assert statuses(gateway, 2) == [202, 429]
    other = gateway.another_key()
    assert gateway.post("/v1/communicate/email", EMAIL, key=other).status == 202


def test_the_limit_holds_over_two_servers_on_one_outbox(serve_gateway: ServeGateway) -> None:
    one = serve_gateway(ACCOUNTS + 'rate_limit = "20/m"\n')
    two = serve_gateway(ACCOUNTS + 'rate_limit = "20/m"\n', folder=one.folder)
    two.key = one.key
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(gateway.post, "/v1/communicate/email", EMAIL) for gateway in (one, two) * 30]
    answered = [future.result().status for future in asked]
    assert sorted(answered) == [202] * 20 + [429] * 40


def test_who_goes_on_regardless_is_flagged_then_suspended_until_an_operator_lifts_it(
    serve_gateway: ServeGateway,
) -> None:
    gateway = serve_gateway(ACCOUNTS + 'rate_limit = "1/m"\nflag_after = "2/m"\nsuspend_after = "4/m"\n')
    replies = [gateway.post("/v1/communicate/email", EMAIL) for _ in range(6)]
    assert [reply.status for reply in replies] == [202, 429, 429, 429, 403, 403]
    assert "flagged" not in replies[1].json["message"]
    assert "flagged" in replies[2].json["message"]
    assert replies[4].json["error"] == "suspended"
    assert gateway.get("/v1/messages").status == 403
    assert "suspended" in gateway.log
    [shown] = gateway.keys("list", "--json").json
    assert shown["status"] == "suspended"
    gateway.keys("unsuspend", gateway.key_id)
    assert gateway.post("/v1/communicate/email", EMAIL).status == 202


def test_messages_are_limited_too_and_a_batch_counts_as_many_as_it_has(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(ACCOUNTS + 'rate_limit = []\nmessage_limit = ["5/m", "100/d"]\n')
    batch = {"emails": [EMAIL] * 4}
    assert gateway.post("/v1/communicate/email/batch", batch).status == 202
    assert gateway.post("/v1/communicate/email/batch", batch).status == 429
    assert statuses(gateway, 2) == [202, 429]
    larger = gateway.post("/v1/communicate/email/batch", {"emails": [EMAIL] * 6})
    assert (larger.status, larger.json["error"]) == (413, "too_large")


def test_above_a_quota_messages_are_accepted_held_and_flow_by_themselves_when_there_is_room(
    serve_gateway: ServeGateway,
) -> None:
    gateway = serve_gateway(ACCOUNTS + 'rate_limit = []\nquota = "2/2s"\n')
    reply = gateway.post("/v1/communicate/email/batch", {"emails": [EMAIL] * 4})
    assert reply.status == 202
    assert [item["status"] for item in reply.json["results"]] == ["queued", "queued", "held", "held"]
    held = reply.json["results"][2]["id"]
    assert gateway.get(f"/v1/messages/{held}").json["due_at"]
    retry = gateway.post(f"/v1/messages/{held}/retry")
    assert retry.status == 409
    shown = gateway.settled(held, but_not=("held", "queued", "sending"))
    assert shown["status"] == "sent"
    waited = datetime.fromisoformat(shown["settled_at"]) - datetime.fromisoformat(shown["created_at"])
    assert waited.total_seconds() > 1.5


def test_the_countries_of_an_account_behind_a_rule_cannot_be_avoided(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(
        ACCOUNTS
        + "rate_limit = []\nsms_countries = {french = ['GB']}\nsms_refused_types = 'premium_rate'\n"
        + "[accounts.french]\nprovider = 'memory'\nfrom = '+15005550007'\n"
        + "[[rules]]\nchannel = 'sms'\ncountry = ['FR']\nuse = 'french'\n"
    )
    french = {**sms("+33612345678"), "provider": "texts"}
    assert gateway.post("/v1/communicate/sms", french).json["error"] == "country_not_allowed"
    assert gateway.post("/v1/communicate/sms", {**sms(), "provider": "texts"}).status == 202
    reply = gateway.post("/v1/communicate/sms", sms("+449012345678"))
    assert (reply.status, reply.json["error"]) == (403, "number_not_allowed")


def test_sms_to_a_country_that_is_not_listed_are_refused(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(ACCOUNTS + "rate_limit = []\nsms_countries = {texts = ['GB', 'IE']}\n")
    assert gateway.post("/v1/communicate/sms", sms()).status == 202
    batch = {"sms": [sms(), sms("+882345678901"), sms(["+447700900123", "+33612345678"])]}
    reply = gateway.post("/v1/communicate/sms/batch", batch)
    assert [item.get("error") for item in reply.json["results"]] == [None, "country_not_allowed", "country_not_allowed"]
    assert reply.json["results"][2]["details"][0]["field"] == "data.to[1]"


@pytest.mark.parametrize(
    ("setting", "bodies", "held"),
    [
        ('sms_budget = "4/h"', [sms(body="x" * 300), sms(body="x" * 300), sms()], [False, False, True]),
        ('sms_budget = "3/h"', [sms(body="x" * 1000), sms()], [True, False]),
        ('sms_per_recipient = "1/h"', [sms(), sms("+447700900124"), sms()], [False, False, True]),
        (
            'sms_spend = "1/h"\nsms_prices = {GB = 0.4, "*" = 0.7}',
            [sms(), sms("+33612345678"), sms()],
            [False, True, True],
        ),
    ],
)
def test_what_is_above_an_sms_budget_is_held(
    serve_gateway: ServeGateway, setting: str, bodies: list[Any], held: list[bool]
) -> None:
    gateway = serve_gateway(ACCOUNTS + f"rate_limit = []\n{setting}\n")
    reply = gateway.post("/v1/communicate/sms/batch", {"sms": bodies})
    assert [item["status"] == "held" for item in reply.json["results"]] == held
    assert gateway.post("/v1/communicate/email", EMAIL).json["status"] == "queued"
    assert "messages are held" in gateway.log


def test_a_refusal_costs_next_to_nothing(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(ACCOUNTS + 'rate_limit = "12/h"\nsuspend_after = "1000000/h"\n', work=False)
    batch = {"emails": [EMAIL] * 100}
    assert set(statuses(gateway, 2, batch, "email/batch")) == {202}  # what is imported at first use is there
    accepted = processor_seconds(lambda: statuses(gateway, 10, batch, "email/batch"), {202})
    refused = processor_seconds(lambda: statuses(gateway, 10, batch, "email/batch"), {429})
    assert 3 * refused < accepted  # an eighth is usual; one that does the work of an accepted one costs all of it


def processor_seconds(asked: Callable[[], list[int]], answered: set[int]) -> float:
    """What the threads of the service spend on requests that are answered so."""
    before = processor_seconds_of_others()
    assert set(asked()) == answered
    return processor_seconds_of_others() - before


def processor_seconds_of_others() -> float:
    """What all threads but this one have used."""
    return time.process_time() - time.thread_time()


def test_what_is_repeated_under_its_idempotency_key_uses_up_no_quota(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(f'{ACCOUNTS}rate_limit = []\nmessage_limit = "4/h"\nquota = "3/h"', work=False)
    named = {"Idempotency-Key": "order-1"}
    with ThreadPoolExecutor(6) as pool:  # at once, so that none of them is known when the others are looked at
        answers = list(pool.map(lambda _: gateway.post("/v1/communicate/email", EMAIL, headers=named), range(12)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    batch = {"emails": [EMAIL, EMAIL]}
    answers = [gateway.post("/v1/communicate/email/batch", batch, headers={"Idempotency-Key": "b"}) for _ in range(5)]
    assert [[item["status"] for item in answer.json["results"]] for answer in answers] == [["queued"] * 2] * 5
    conflict = gateway.post("/v1/communicate/email", {**EMAIL, "subject": "another"}, headers=named)
    assert conflict.status == 422
    assert gateway.post("/v1/communicate/email", EMAIL).json["status"] == "held"  # the fourth, where three flow
    assert gateway.post("/v1/communicate/email", EMAIL).status == 429
