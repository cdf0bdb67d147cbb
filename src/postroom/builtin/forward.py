"""Provider `postroom`: hands messages to another postroom's gateway, which keeps and sends them.

With an outbox of its own, a program that is offline at times loses nothing: every message carries an
idempotency key, so one that is handed over again is still one message at the gateway.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, SecretStr

from postroom.errors import AuthenticationFailed, MessageRejected, Outcome, Scope, UnexpectedResponse
from postroom.plugin import EMAIL_FEATURES, BaseUrl, Capabilities, CheckReport, HttpAccountSettings, hookimpl
from postroom.plugin.http import HttpEmailTransport, HttpSmsTransport
from postroom.receipts import Accepted

if TYPE_CHECKING:
    from postroom.addresses import Address
    from postroom.errors import DeliveryError
    from postroom.messages import Attachment, Email, Message, Sms
    from postroom.plugin.http import HttpReply

postroom_interface = 1

NOT_FORWARDED = frozenset({"template", "merge_data", "calendar", "amp", "provider_options"})
"""What the gateway's API has no field for."""

Fields = dict[str, Any]


def _key(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("must be the key as `postroom keys create` printed it")
    return value


class PostroomSettings(HttpAccountSettings):
    """`base_url` is the gateway's address, and `key` one of its keys, as `postroom keys create` prints it.

    `via` names the route, account or provider the gateway shall use; without it the gateway chooses.
    """

    url_fields: ClassVar[dict[str, str]] = {"username": "key", "password": "key"}

    provider: str = "postroom"
    base_url: BaseUrl
    key: Annotated[SecretStr, AfterValidator(_key)]
    via: str | None = None


class PostroomEmail(HttpEmailTransport[PostroomSettings]):
    """Forwards an e-mail as `POST /v1/communicate/email`."""

    settings_model = PostroomSettings
    capabilities = Capabilities(features=EMAIL_FEATURES - NOT_FORWARDED, deduplicates=True)

    async def send(self, email: Email, /) -> Accepted:
        return await _forwarded(self, "email", email, {**_shared(self.settings, email), **_email(email)})

    async def check(self) -> CheckReport:
        return await _checked(self)


class PostroomSms(HttpSmsTransport[PostroomSettings]):
    """Forwards an SMS, to any number of recipients, as `POST /v1/communicate/sms`."""

    settings_model = PostroomSettings
    capabilities = Capabilities(features=frozenset({"media", "send_at"}), deduplicates=True)

    async def send(self, sms: Sms, /) -> Accepted:
        return await _forwarded(self, "sms", sms, {**_shared(self.settings, sms), "data": _sms(sms)})

    async def check(self) -> CheckReport:
        return await _checked(self)


@hookimpl
def postroom_email_transport() -> type[PostroomEmail]:
    """Return the e-mail half."""
    return PostroomEmail


@hookimpl
def postroom_sms_transport() -> type[PostroomSms]:
    """Return the SMS half."""
    return PostroomSms


def idempotency_key(message: Message) -> str:
    """Return what names this hand-over at the gateway: the message, and who it is for."""
    recipients = hashlib.sha256("\n".join(message.recipients).encode()).hexdigest()
    return f"{message.id}-{recipients[:16]}"


async def _forwarded(
    transport: PostroomEmail | PostroomSms, channel: Literal["email", "sms"], message: Message, fields: Fields
) -> Accepted:
    headers = {**_authorised(transport.settings), "Idempotency-Key": idempotency_key(message)}
    reply = await transport.request(
        "POST",
        f"{transport.base_url}/v1/communicate/{channel}",
        headers=headers,
        body=json.dumps(fields, ensure_ascii=False).encode(),
        content_type="application/json",
    )
    if reply.status >= 300:
        raise _refusal(transport, reply)
    id_ = reply.json_object().get("id")
    if reply.status != 202 or not isinstance(id_, str):
        raise transport.failure(reply, kind=UnexpectedResponse, detail="an answer without the id of the message")
    return Accepted(provider_message_id=id_, request_id=reply.headers.get("X-Request-Id"))


async def _checked(transport: PostroomEmail | PostroomSms) -> CheckReport:
    """List one message, which every key may."""
    url = f"{transport.base_url}/v1/messages?limit=1"
    reply = await transport.ask("GET", url, headers=_authorised(transport.settings))
    if reply.status >= 300:
        raise _refusal(transport, reply)
    if "messages" in reply.json_object():
        return CheckReport(ok=True, summary=f"{transport.base_url} takes this key")
    return CheckReport(ok=False, summary=f"{url} answered {reply.status}, but not as a gateway does; check base_url")


def _refusal(transport: PostroomEmail | PostroomSms, reply: HttpReply) -> DeliveryError:
    """Return the error for an error response; its codes are in docs/reference/gateway.md."""
    said = reply.json_object()
    code = said.get("error") if isinstance(said.get("error"), str) else None
    detail = str(said.get("message") or "").rstrip(".")
    request_id = reply.headers.get("X-Request-Id")
    if reply.status in {404, 405}:
        return transport.failure(
            reply,
            kind=UnexpectedResponse,
            outcome=Outcome.PERMANENT,
            scope=Scope.ACCOUNT,
            detail=detail,
            advice="this is no gateway of postroom, so nothing was sent; correct base_url",
        )
    kind = _KINDS.get((reply.status, code))
    return transport.failure(reply, code=code, detail=detail, kind=kind, request_id=request_id)


def _authorised(settings: PostroomSettings) -> dict[str, str]:
    return {"Authorization": f"Bearer {settings.key.get_secret_value()}"}


def _shared(settings: PostroomSettings, message: Message) -> Fields:
    fields: Fields = {"required": message.required, "category": message.category, "priority": message.priority}
    if settings.via:
        fields["provider"] = settings.via
    if message.send_at:
        fields["send_at"] = message.send_at.isoformat()
    if message.expires_at:
        fields["expires_at"] = message.expires_at.isoformat()
    return fields


def _email(email: Email) -> Fields:
    fields: Fields = {
        "from": str(email.from_),
        "to": [_recipient(a, group) for group in ("to", "cc", "bcc") for a in getattr(email, group)],
        "subject": email.subject,
        "headers": _headers(email),
        "attachments": [_file(a) for a in email.attachments if not a.inline],
        "images": [_file(a) for a in email.attachments if a.inline],
        "tags": list(email.tags),
        "metadata": email.metadata,
    }
    return fields | {name: body for name in ("text", "html") if (body := getattr(email, name)) is not None}


def _recipient(address: Address, group: str) -> Fields:
    return {"email": address.email, "name": address.name, "type": group}


def _headers(email: Email) -> dict[str, str]:
    headers = dict(email.headers)
    if email.message_id:
        headers["Message-ID"] = email.message_id
    if email.reply_to:
        headers["Reply-To"] = ", ".join(str(address) for address in email.reply_to)
    return headers


def _file(attachment: Attachment) -> Fields:
    content = b64encode(attachment.content).decode()
    fields = {"name": attachment.filename, "type": attachment.content_type, "encoding": "base64", "content": content}
    if not attachment.inline:
        return fields
    return {**fields, "name": attachment.content_id or attachment.filename, "filename": attachment.filename}


def _sms(sms: Sms) -> Fields:
    fields: Fields = {"to": list(sms.to), "body": sms.body}
    if sms.from_:
        fields["from"] = sms.from_
    if sms.media:
        fields["mediaUrl"] = list(sms.media)
    return fields


_KINDS: dict[tuple[int, str | None], type[DeliveryError]] = {
    (403, "forbidden"): MessageRejected,
    (403, "suspended"): AuthenticationFailed,
}
