"""Schemas of the API's bodies and answers, for its description (`/docs`, `/openapi.json`).

Requests are read by `postroom.gateway.parsing`, which takes more than is described here: what real clients send.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, EmailStr, Field, create_model

from postroom.events import EventType
from postroom.gateway.api.samples import CREDENTIALS
from postroom.gateway.parsing.attachments import ENCODINGS
from postroom.messages import Category
from postroom.receipts import Attempt, Channel, RecipientResult, Status


class ApiObject(BaseModel):
    """An object of the API; unknown fields are ignored."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": True})


class Recipient(ApiObject):
    email: EmailStr
    type: Literal["to", "cc", "bcc"] = Field("to", description="Which list the recipient stands in.")
    name: str = Field("", description="Display name.")


class NodeBuffer(ApiObject):
    type: Literal["Buffer"]
    data: list[Annotated[int, Field(ge=0, le=255)]] = Field(description="What JSON.stringify makes of a Buffer.")


class File(ApiObject):
    name: str = Field(description="The file's name with its extension; of an image, its Content-ID.", min_length=1)
    content: str | NodeBuffer = Field(description="Text, or as `encoding` says, or a Node Buffer.")
    type: str = Field("", description="MIME type; guessed from the name if left out.", examples=["text/plain"])
    encoding: str | None = Field(None, description=f"One of {', '.join(ENCODINGS)}, in any case.")


class EmailBody(ApiObject):
    to: list[Recipient] = Field(description='All recipients: "to", "cc" and "bcc" in one list.', min_length=1)
    subject: str = ""
    from_name: str = Field("", description="The sender's display name; the address is the account's.")
    html: str = Field("", description="HTML body.")
    text: str = Field("", description="Plain text body, beside or instead of `html`.")
    headers: dict[str, str] = Field(
        {},
        description="Headers to add, such as Reply-To and X-*. Those that have a meaning of their own are refused.",
    )
    attachments: list[File] = []
    images: list[File] = Field([], description="Inline images, shown by `cid:NAME`; `content` is base64.")
    required: bool = Field(False, description="Keep until it is delivered, refused for good or past its expiry.")
    provider: str = Field("", description="Route, account or provider to use; else the configured one.")
    category: Category = Field("transactional", description="Marketing mail gets unsubscribe headers.")
    tags: list[str] = []
    metadata: dict[str, str] = {}
    send_at: datetime | None = Field(None, description="Not before this time.")
    expires_at: datetime | None = Field(None, description="Not after this time.")


class EmailBatch(ApiObject):
    emails: list[EmailBody] = Field(description="Each is accepted or rejected by itself.", min_length=1)


class SmsData(ApiObject):
    to: str | list[str] = Field(
        description="One number in international form, or a list of them.", examples=["+447700900123"]
    )
    body: str
    from_: str = Field("", alias="from", description="Number, short code or name; else the account's.")
    mediaUrl: str | list[str] = Field("", description="Media of an MMS, fetched by the provider.")  # noqa: N815 - the provider's name


_OPTIONS: dict[str, Any] = {name: (str, Field("", description=text)) for name, text in CREDENTIALS.items()}
SmsOptions = create_model("SmsOptions", __base__=ApiObject, **_OPTIONS)


class SmsBody(ApiObject):
    data: SmsData
    provider: str = Field("", description="Route, account or provider to use; else the configured one.")
    options: SmsOptions = Field(SmsOptions(), description="Credentials for this message alone, kept encrypted.")
    required: bool = Field(False, description="Keep until it is delivered, refused for good or past its expiry.")


class SmsBatch(ApiObject):
    sms: list[SmsBody] = Field(description="Each is accepted or rejected by itself.", min_length=1)


class FieldProblem(BaseModel):
    field: str = Field(description="Path of the field as the request has it, such as to[0].email; empty for the whole.")
    message: str


class ErrorAnswer(BaseModel):
    """Every answer that is no success."""

    error: str = Field(description="Stable code, for programs.")
    message: str = Field(description="What happened and what to do next, for people.")
    details: list[FieldProblem] = []


class TooManyAnswer(ErrorAnswer):
    referenceUrl: str = Field(description="Where limits are explained.")  # noqa: N815 - as the API's pages name it
    nextValidRequestDate: datetime = Field(description="When there is room again.")  # noqa: N815 - as above


class RecipientState(BaseModel):
    address: str
    status: str


class AcceptedAnswer(BaseModel):
    """The message is on disk and will be sent; look it up under its id."""

    id: str
    status: Status
    recipients: list[RecipientState]


class BatchItem(BaseModel):
    index: int = Field(description="Place in the request's list, from 0.")
    id: str | None = None
    status: Status | None = None
    recipients: list[RecipientState] | None = None
    error: str | None = None
    message: str | None = None
    details: list[FieldProblem] | None = None


class BatchAnswer(BaseModel):
    """What became of each item; 400 when none was accepted."""

    accepted: int
    rejected: int
    results: list[BatchItem]


class HealthAnswer(BaseModel):
    status: str


class ReadinessAnswer(HealthAnswer):
    outbox: str = Field(description="`ok`, or why nothing can be stored.")
    worker: str = Field(description="`ok`, `elsewhere` (this process does not send), or why nothing is being sent.")


class EventAnswer(BaseModel):
    type: EventType
    occurred_at: datetime
    recipient: str | None = None
    provider: str
    code: str | None = None
    detail: str | None = None


class MessageLine(BaseModel):
    id: str
    channel: Channel
    status: Status
    account: str
    to: list[str]
    subject: str = Field(description="Start of the subject or text; empty once the body has been removed.")
    attempts: int
    created_at: datetime
    due_at: datetime | None
    settled_at: datetime | None
    error: str | None


class MessageList(BaseModel):
    messages: list[MessageLine]
    next: str | None = Field(description="`cursor` of the next page; null on the last.")


class MessageAnswer(BaseModel):
    """Everything known of one message but its contents."""

    id: str
    channel: Channel
    status: Status
    provider: str | None
    account: str | None
    provider_message_id: str | None
    message_id: str | None
    recipients: list[RecipientResult]
    attempts: list[Attempt]
    events: list[EventAnswer]
    created_at: datetime
    due_at: datetime | None
    expires_at: datetime | None
    settled_at: datetime | None


class SuppressionAnswer(BaseModel):
    """One address that is not written to; `category` is empty for messages of every category."""

    channel: Channel
    address: str
    category: Literal["", "marketing", "transactional"]
    reason: str
    detail: str | None = None
    since: datetime
    lifted: bool


class SuppressionPage(BaseModel):
    suppressions: list[SuppressionAnswer]
    next: str | None = Field(description="`after` of the next page; null on the last.")
