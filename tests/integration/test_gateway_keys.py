"""Who may use the service: keys from the command line, the ways to present one, scopes, revocation."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Finished
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
[accounts.other]
provider = "memory"
from = "other@example.org"
[gateway]
rate_limit = "10000/s"
cors_origins = ["https://apps.example.com"]
"""

EMAIL = {"to": [{"email": "john@example.com"}], "html": "<p>Hi</p>"}
SMS = {"data": {"to": "+447700900123", "body": "Hi"}}


@pytest.fixture(scope="module")
def gateway(serve_gateway: ServeGateway) -> Gateway:
    return serve_gateway(CONFIG)


def made(gateway: Gateway, *arguments: str) -> dict[str, Any]:
    key: dict[str, Any] = gateway.keys("create", "--json", *arguments).json
    return key


def encoded(key: str) -> str:
    return base64.b64encode(key.encode()).decode()


WAYS: dict[str, Callable[[str], tuple[dict[str, str], str]]] = {
    "header": lambda key: ({"Auth-token": key}, ""),
    "header in capitals": lambda key: ({"AUTH-TOKEN": key}, ""),
    "bearer": lambda key: ({"Authorization": f"Bearer {key}"}, ""),
    "bearer in base64": lambda key: ({"Authorization": f"Bearer {encoded(key)}"}, ""),
    "query": lambda key: ({}, f"?auth_token={key}"),
    "cookie": lambda key: ({"Cookie": f"theme=dark; auth_token={key}"}, ""),
    "header and bearer": lambda key: ({"Auth-token": key, "Authorization": f"Bearer {encoded(key)}"}, ""),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_key_is_taken_in_each_of_its_ways(gateway: Gateway, way: str) -> None:
    headers, query = WAYS[way](gateway.key)
    assert gateway.post(f"/v1/communicate/email{query}", EMAIL, key=None, headers=headers).status == 202


@pytest.mark.parametrize("way", WAYS)
def test_a_wrong_key_is_a_401_in_each_of_its_ways(gateway: Gateway, way: str) -> None:
    headers, query = WAYS[way]("eu--" + "x" * 43)
    reply = gateway.post(f"/v1/communicate/email{query}", EMAIL, key=None, headers=headers)
    assert reply.status == 401
    assert reply.json["error"] == "not_authorised"
    assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_no_key_is_a_401_that_says_how_to_get_one(gateway: Gateway) -> None:
    reply = gateway.post("/v1/communicate/email", EMAIL, key=None)
    assert reply.status == 401
    assert "postroom keys create" in reply.json["message"]


def test_the_first_place_that_holds_a_key_decides(gateway: Gateway) -> None:
    wrong = {"Auth-token": "eu--" + "x" * 43, "Authorization": f"Bearer {gateway.key}"}
    assert gateway.post("/v1/communicate/email", EMAIL, key=None, headers=wrong).status == 401
    right = {"Auth-token": gateway.key, "Authorization": "Bearer nonsense"}
    assert gateway.post("/v1/communicate/email?auth_token=x", EMAIL, key=None, headers=right).status == 202


def test_a_cookie_is_not_taken_from_a_page_of_another_site(gateway: Gateway) -> None:
    cookie = {"Cookie": f"auth_token={gateway.key}"}
    for told in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        reply = gateway.post("/v1/communicate/email", EMAIL, key=None, headers={**cookie, **told})
        assert (reply.status, reply.json["error"]) == (403, "forbidden")
    own = {**cookie, "Origin": f"http://127.0.0.1:{gateway.port}"}
    assert gateway.post("/v1/communicate/email", EMAIL, key=None, headers=own).status == 202


def test_a_revoked_key_is_refused_at_once_and_its_messages_stay_for_the_operator(gateway: Gateway) -> None:
    key = made(gateway, "leaver")
    assert gateway.post("/v1/communicate/email", EMAIL, key=key["key"]).status == 202
    gateway.keys("revoke", key["id"])
    assert gateway.post("/v1/communicate/email", EMAIL, key=key["key"]).status == 401
    [shown] = [k for k in gateway.keys("list", "--json").json if k["id"] == key["id"]]
    assert shown["status"] == "revoked"


def test_a_key_of_one_channel_may_not_use_the_other(gateway: Gateway) -> None:
    key = made(gateway, "--channel", "sms")["key"]
    assert gateway.post("/v1/communicate/sms", SMS, key=key).status == 202
    reply = gateway.post("/v1/communicate/email", EMAIL, key=key)
    assert (reply.status, reply.json["error"]) == (403, "forbidden")


def test_a_key_of_one_account_may_not_use_another(gateway: Gateway) -> None:
    key = made(gateway, "--account", "box")["key"]
    assert gateway.post("/v1/communicate/email", EMAIL, key=key).status == 202
    assert gateway.post("/v1/communicate/email", {**EMAIL, "provider": "other"}, key=key).status == 403


def test_a_key_of_one_account_may_not_reach_another_by_the_rules_or_a_route(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(
        CONFIG
        + '[routes.safe]\nvia = ["texts", "abroad"]\n[accounts.abroad]\nprovider = "memory"\nfrom = "+15005550007"\n'
        + '[[rules]]\nchannel = "sms"\ncountry = ["FR"]\nuse = "abroad"\n'
    )
    key = made(gateway, "--account", "texts")["key"]

    def answer(to: Any, **data: Any) -> int:
        return gateway.post("/v1/communicate/sms", {"data": {"to": to, "body": "Hi", **data}}, key=key).status

    british, french = "+447700900123", "+33612345678"
    assert answer(british) == 202
    assert answer(french) == 403  # the rules send it through the other account
    assert answer([british, french]) == 403  # and of this a part
    reply = gateway.post("/v1/communicate/sms", {**SMS, "provider": "safe"}, key=key)
    assert reply.status == 403  # where the first account fails, the route goes on to the other
    assert gateway.get("/v1/messages", key=key).json["messages"][0]["account"] == "texts"


@pytest.mark.parametrize("provider", ["console", "file", "postroom", "twilio", "smtp"])
@pytest.mark.parametrize("scope", [(), ("--channel", "sms", "--channel", "email")])
def test_a_key_without_accounts_may_name_nothing_that_the_configuration_does_not_name(
    gateway: Gateway, provider: str, scope: tuple[str, ...]
) -> None:
    key = made(gateway, *scope)["key"]
    for path, body in (("sms", SMS), ("email", EMAIL)):
        reply = gateway.post(f"/v1/communicate/{path}", {**body, "provider": provider}, key=key)
        assert (reply.status, reply.json["error"]) == (403, "forbidden")


def test_what_brings_no_credentials_that_a_provider_takes_does_not_reach_it_either(gateway: Gateway) -> None:
    for provider in ("console", "file", "postroom"):
        body = {**SMS, "provider": provider, "options": {"postroom_key": "eu--0123456789abcdef"}}
        assert gateway.post("/v1/communicate/sms", body).status == 400


def test_a_message_may_bring_the_credentials_for_a_provider_without_an_account(gateway: Gateway) -> None:
    own = {"twilio_sid": f"AC{'0' * 32}", "twilio_auth_token": "secret"}
    body = {"data": {**SMS["data"], "from": "+15005550006"}, "provider": "twilio", "options": own}
    assert gateway.post("/v1/communicate/sms", body).status == 202


def test_a_provider_without_an_account_is_for_keys_that_list_it(gateway: Gateway) -> None:
    key = made(gateway, "--account", "console")["key"]
    body = {"data": {**SMS["data"], "from": "+15005550006"}, "provider": "console"}
    assert gateway.post("/v1/communicate/sms", body, key=key).status == 202


def test_a_key_may_use_the_route_that_it_lists_whether_a_message_names_it_or_it_is_the_default(
    serve_gateway: ServeGateway,
) -> None:
    gateway = serve_gateway(
        CONFIG.replace('sms = "texts"', 'sms = "safe"')
        + '[routes.safe]\nvia = ["texts", "abroad"]\n[accounts.abroad]\nprovider = "memory"\nfrom = "+15005550007"\n'
    )
    key = made(gateway, "--account", "safe")["key"]
    for provider, status in ((None, 202), ("safe", 202), ("abroad", 403)):
        body = SMS if provider is None else {**SMS, "provider": provider}
        assert gateway.post("/v1/communicate/sms", body, key=key).status == status


def test_a_key_of_one_sender_may_not_send_as_another(gateway: Gateway) -> None:
    key = made(gateway, "--sender", "+15005550006")["key"]
    one, other = ({"data": {**SMS["data"], "from": number}} for number in ("+15005550006", "+15005550007"))
    assert gateway.post("/v1/communicate/sms", one, key=key).status == 202
    assert gateway.post("/v1/communicate/sms", other, key=key).status == 403


def test_an_item_that_the_key_may_not_send_spoils_no_other(gateway: Gateway) -> None:
    key = made(gateway, "--account", "box")["key"]
    batch = {"emails": [EMAIL, {**EMAIL, "provider": "other"}]}
    reply = gateway.post("/v1/communicate/email/batch", batch, key=key)
    assert reply.status == 202
    assert [item.get("error") for item in reply.json["results"]] == [None, "forbidden"]


def test_a_key_sees_only_its_own_messages(gateway: Gateway) -> None:
    mine = gateway.post("/v1/communicate/email", EMAIL).json["id"]
    gateway.settled(mine)
    other = made(gateway, "other")["key"]
    assert gateway.get("/v1/messages", key=other).json == {"messages": [], "next": None}
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("POST", "/resolve")):
        body = {"outcome": "sent"} if path == "/resolve" else None
        reply = gateway.call(method, f"/v1/messages/{mine}{path}", body, key=other)
        assert (reply.status, reply.json["error"]) == (404, "not_found")


def test_the_idempotency_key_of_one_api_key_means_nothing_to_another(gateway: Gateway) -> None:
    named = {"Idempotency-Key": "shared"}
    first = gateway.post("/v1/communicate/email", EMAIL, headers=named)
    other = gateway.post("/v1/communicate/email", EMAIL, headers=named, key=made(gateway)["key"])
    assert (first.status, other.status) == (202, 202)
    assert first.json["id"] != other.json["id"]


def test_a_key_is_nowhere_in_log_or_outbox_however_it_was_presented(gateway: Gateway) -> None:
    for way in WAYS.values():
        headers, query = way(gateway.key)
        gateway.get(f"/v1/messages{query}", key=None, headers=headers)
        gateway.get(f"/nowhere{query}", key=None, headers=headers)
    assert gateway.key not in gateway.log
    assert encoded(gateway.key) not in gateway.log
    assert "auth_token=***" in gateway.log
    assert gateway.key_id.encode() in gateway.stored()
    assert gateway.key.encode() not in gateway.stored()


def test_credentials_of_a_message_are_nowhere_in_clear(gateway: Gateway) -> None:
    canary = "canary-6c1d9e"
    body = {**SMS, "provider": "texts", "options": {"twilio_sid": "AC" + "1" * 32, "twilio_auth_token": canary}}
    reply = gateway.post("/v1/communicate/sms", body)
    said = [reply.body]
    if reply.status == 202:
        said.append(json.dumps(gateway.settled(reply.json["id"])).encode())
        said.append(gateway.get("/v1/messages").body)
    said.append(gateway.stored())
    assert not any(canary.encode() in text or canary.encode().hex().encode() in text for text in said)
    assert canary not in gateway.log


def test_credentials_are_refused_where_the_policy_denies_them(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(CONFIG + 'request_credentials = "deny"\n')
    reply = gateway.post("/v1/communicate/sms", {**SMS, "options": {"twilio_sid": "a", "twilio_auth_token": "b"}})
    assert (reply.status, reply.json["error"]) == (403, "credentials_not_allowed")
    assert gateway.post("/v1/communicate/sms", {**SMS, "options": {}}).status == 202


def test_pages_of_the_listed_origins_may_call_and_others_may_not(gateway: Gateway) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "auth-token,content-type"}
    reply = gateway.call("OPTIONS", "/v1/communicate/email", key=None,
                         headers={**asked, "Origin": "https://apps.example.com"})  # fmt: skip
    assert reply.status == 200
    assert reply.headers["Access-Control-Allow-Origin"] == "https://apps.example.com"
    allowed = reply.headers["Access-Control-Allow-Headers"].lower()
    assert all(name in allowed for name in ("auth-token", "x-device-platform", "x-device-tracking", "x-app-locales"))
    other = gateway.call("OPTIONS", "/v1/communicate/email", key=None,
                         headers={**asked, "Origin": "https://evil.example"})  # fmt: skip
    assert other.status == 400
    assert other.headers["Access-Control-Allow-Origin"] is None
    sent = gateway.post("/v1/communicate/email", EMAIL, headers={"Origin": "https://apps.example.com"})
    assert sent.headers["Access-Control-Allow-Origin"] == "https://apps.example.com"
    assert "Retry-After" in sent.headers["Access-Control-Expose-Headers"]


def test_without_a_key_it_listens_to_this_machine_only_and_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "postroom.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "postroom", "serve", "--host", "0.0.0.0", "--port", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        said = [process.stderr.readline() for _ in range(3)]
    finally:
        process.terminate()
        process.communicate(timeout=100)
    assert "postroom keys create" in said[0]
    assert "127.0.0.1 instead of 0.0.0.0" in said[1]
    assert "listening on http://127.0.0.1:" in said[2]


def test_a_port_that_is_taken_and_a_wrong_account_are_told_before_anything_starts(
    tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    (tmp_path / "postroom.toml").write_text(CONFIG)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli("serve", "--port", str(taken.getsockname()[1]))
    assert done.code == 2
    assert "cannot listen on 127.0.0.1" in done.err
    (tmp_path / "postroom.toml").write_text('[accounts.mail]\nprovider = "smtp"\nhost = "x"\nhots = "y"\n')
    done = cli("serve", "--port", "0")
    assert done.code == 2
    assert "accounts.mail.hots" in done.err
