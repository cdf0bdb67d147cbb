"""The samples of the API's page through the vendors' transports: credentials in the request, and the vendors' contracts."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import pytest

from postroom.testing.http import Answer, HttpRecorder

if TYPE_CHECKING:
    from tests.integration.conftest import ServeGateway


SID, TOKEN = "AC81caaa94b3b84bb7ba9c3cd96bcb152a", "canary-auth-token-1f7e"
FROM, TO = "+15005550006", "+15005550010"

CONFIG = """
[defaults]
email = "mail"
sms = "twilio"
[accounts.mail]
provider = "sendgrid"
api_key = "SG.test"
from = "desk@example.org"
base_url = "{sendgrid}"
[accounts.twilio]
provider = "twilio"
account_sid = "AC00000000000000000000000000000000"
auth_token = "0123456789abcdef0123456789abcdef"
from = "+15005550006"
base_url = "{twilio}"
[gateway]
rate_limit = []
"""


def sample(to: Any = TO) -> dict[str, Any]:
    data = {"from": FROM, "to": to, "body": "Hey!"}
    return {"provider": "twilio", "data": data, "options": {"twilio_sid": SID, "twilio_auth_token": TOKEN}}


async def test_the_credentials_of_a_request_are_used_for_its_message_and_kept_from_everybody_else(
    serve_gateway: ServeGateway,
) -> None:
    answer = Answer(status=201, body={"sid": "SM" + "1" * 32, "status": "queued", "to": TO, "from": FROM})
    async with HttpRecorder() as vendor:
        vendor.answer(answer)
        config = CONFIG.format(twilio=vendor.url, sendgrid=vendor.url)
        gateway = await asyncio.to_thread(serve_gateway, config, work=False)
        reply = await asyncio.to_thread(gateway.post, "/v1/communicate/sms", sample())
        assert reply.status == 202
        stored = b"".join(file.read_bytes() for file in gateway.folder.glob("postroom.db*"))
        worker = await asyncio.to_thread(serve_gateway, config, folder=gateway.folder)
        worker.key = gateway.key
        shown = await asyncio.to_thread(worker.settled, reply.json["id"])
        listing = await asyncio.to_thread(worker.get, "/v1/messages")
        [request] = vendor.requests
    assert shown["status"] == "sent"
    assert shown["provider_message_id"] == "SM" + "1" * 32
    assert request.path == f"/2010-04-01/Accounts/{SID}/Messages.json"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(f"{SID}:{TOKEN}".encode()).decode()
    assert dict(request.form()) == {"To": TO, "From": FROM, "Body": "Hey!"}
    assert TOKEN.encode() not in stored + reply.body + listing.body + repr(shown).encode()
    assert TOKEN not in gateway.log + worker.log


async def test_what_the_vendor_says_to_wrong_credentials_is_told_without_them(serve_gateway: ServeGateway) -> None:
    async with HttpRecorder() as vendor:
        vendor.answer(Answer(status=401, body={"code": 20003, "message": "Authenticate", "status": 401}))
        gateway = await asyncio.to_thread(serve_gateway, CONFIG.format(twilio=vendor.url, sendgrid=vendor.url))
        reply = await asyncio.to_thread(gateway.post, "/v1/communicate/sms", sample())
        shown = await asyncio.to_thread(gateway.settled, reply.json["id"])
    assert shown["status"] == "failed"
    assert shown["attempts"][0]["error"]
    assert TOKEN not in repr(shown) + gateway.log


@pytest.mark.system("twilio", "sendgrid")
def test_samples_pass_the_vendors_own_descriptions(serve_gateway: ServeGateway) -> None:
    gateway = serve_gateway(CONFIG.format(twilio="http://127.0.0.1:4060", sendgrid="http://127.0.0.1:4061"))
    mail = {
        "to": [{"email": "john@example.com", "type": "to"}],
        "html": "<p>Hi John 1</p>",
        "subject": "My subject",
        "from_name": "Example Name",
        "headers": {"Reply-To": "message.reply@example.com"},
        "attachments": [],
        "images": [],
    }
    sent = [
        gateway.post("/v1/communicate/sms", sample()).json["id"],
        gateway.post("/v1/communicate/email", mail).json["id"],
        gateway.post("/v1/communicate/sms/batch", {"sms": [sample(), sample("+15005550011")]}).json["results"][1]["id"],
        gateway.post("/v1/communicate/email/batch", {"emails": [mail, mail]}).json["results"][1]["id"],
    ]
    for id_ in sent:
        shown = gateway.settled(id_)
        assert shown["status"] == "sent"
        assert len(shown["attempts"]) == 1
        assert shown["attempts"][0]["outcome"] == "accepted"
