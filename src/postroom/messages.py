"""The two messages: `Email` and `Sms`. Checked once when they are built, and frozen to the bottom from then on."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    SerializationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_serializer,
    field_validator,
    model_validator,
)

from postroom.addresses import Address, email_address
from postroom.attachments import LARGEST_EMAIL, Attachment
from postroom.errors import MessageError
from postroom.field_types import Addresses, Json, Line, PhoneNumbers, Text, as_list, refuse_unwritable
from postroom.frozen import NOTHING, FrozenDict, computed_once, frozen
from postroom.receipts import Channel
from postroom.segments import Segments, count_segments
from postroom.validation import CheckedModel, validated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import ModelWrapValidatorHandler

__all__ = ["LARGEST_EMAIL", "MODELLED_HEADERS", "Attachment", "Email", "Line", "Message", "Sms", "new_id"]

MODELLED_HEADERS = frozenset(
    {"from", "sender", "to", "cc", "bcc", "subject", "mime-version", "received", "return-path", "dkim-signature"}
)
"""Headers that `Email.headers` refuses, as it does every `Content-*` and `Resent-*`: fields own them."""

_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")


Category = Literal["transactional", "marketing"]
Priority = Literal["high", "normal", "low"]


def new_id() -> str:
    """Return a message id: 32 hexadecimal digits that sort by time and cannot be guessed."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def _attachment(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Let the e-mail that an attachment is for report it, with its place and whatever else is wrong."""
    try:
        return handler(value)
    except MessageError as error:
        raise ValueError(str(error).removeprefix("Attachment cannot be sent: ")) from None


class Message(CheckedModel):
    """What e-mail and SMS share.

    `send_at` asks for a later sending, `expires_at` forbids sending after it. `provider` names a route, an
    account or a provider; `provider_options` go to that provider as they are; `options` are credentials for
    this message alone: masked in text and in `model_dump`, spelled out in JSON so that it can be read back.
    `required` keeps the message until it is delivered or refused. `id` is given when the message is accepted.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        serialize_by_alias=True,
        defer_build=True,
        ignored_types=(computed_once,),
    )
    channel_name: ClassVar[Channel]

    send_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    priority: Priority = "normal"
    category: Category = "transactional"
    provider: Line | None = Field(default=None, min_length=1, max_length=200)
    provider_options: Json = NOTHING
    options: Annotated[dict[str, SecretStr], AfterValidator(frozen)] = NOTHING
    required: bool = False
    idempotency_key: Line | None = Field(default=None, min_length=1, max_length=255)
    id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=64)

    @field_serializer("options")
    def _spell_out_options(self, options: dict[str, SecretStr], info: SerializationInfo) -> dict[str, Any]:
        if info.mode_is_json():
            return {name: secret.get_secret_value() for name, secret in options.items()}
        return dict(options)

    @model_validator(mode="after")
    def _checked_whole(self) -> Self:
        if self.send_at and self.expires_at and self.expires_at <= self.send_at:
            raise ValueError("expires_at must be later than send_at")
        self._check()
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _in_our_words(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return validated(cls, value, handler)

    def _check(self) -> None:
        """Raise ValueError where fields do not fit each other."""

    @computed_once
    def recipients(self) -> tuple[str, ...]:
        """The addresses this hand-over is for, in order and without repeats."""
        return tuple(dict.fromkeys(self._all_recipients()))

    def for_recipients(self, addresses: Iterable[str]) -> Self:
        """Return this message for some of its recipients only: the others already have it."""
        chosen = frozenset(addresses)
        return self.stamped(recipients=tuple(r for r in self.recipients if r in chosen))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, with `update` that is not checked; what was worked out from what it replaces goes."""
        copied = super().model_copy(update=update, deep=deep)
        if update and not update.keys().isdisjoint(("to", "cc", "bcc")):
            copied.__dict__.pop("recipients", None)
        return copied

    def _all_recipients(self) -> Iterable[str]:
        raise NotImplementedError

    @property
    def features(self) -> frozenset[str]:
        """What this message asks of a transport beyond a plain text, in the words of `postroom.plugin`."""
        raise NotImplementedError


class Email(Message):
    """An e-mail.

    `to`, `cc`, `bcc`, `reply_to` take text (`"Ann <ann@example.org>"`), `Address`, or lists of these; at
    least one recipient is needed. `from_` (or `from`) defaults to the account's; `from_name` gives either
    another display name. Bodies: `text`, `html`,
    `amp` (AMP for Email) and `calendar` (an iCalendar object), or a provider's `template` with `merge_data`
    (recipient address -> values). `headers` adds headers; those that a field owns are refused. `tags` and
    `metadata` come back with the provider's events. Raises InvalidAddress or MessageError.
    """

    channel_name: ClassVar[Channel] = Channel.EMAIL

    to: Addresses = ()
    cc: Addresses = ()
    bcc: Addresses = ()
    from_: Address | None = Field(
        default=None, validation_alias=AliasChoices("from", "from_"), serialization_alias="from"
    )
    from_name: Line | None = Field(default=None, max_length=200)
    reply_to: Addresses = ()
    subject: Line = ""
    text: Text | None = None
    html: Text | None = None
    attachments: tuple[Annotated[Attachment, WrapValidator(_attachment)], ...] = ()
    headers: Annotated[dict[str, Line], AfterValidator(frozen)] = NOTHING
    tags: tuple[Line, ...] = ()
    metadata: Annotated[dict[str, str], AfterValidator(refuse_unwritable), AfterValidator(frozen)] = NOTHING
    template: Line | None = None
    merge_data: Annotated[dict[Annotated[str, AfterValidator(email_address)], Json], AfterValidator(frozen)] = NOTHING
    calendar: Text | None = None
    amp: Text | None = None
    message_id: Line | None = None

    @model_validator(mode="before")
    @classmethod
    def _lift_headers(cls, value: object) -> object:
        """Move headers that a field owns and that callers usually write as headers into that field."""
        if not isinstance(value, dict) or not isinstance(value.get("headers"), dict):
            return value
        given: dict[str, Any] = {**value, "headers": dict(value["headers"])}
        for name in list(given["headers"]):
            field = {"reply-to": "reply_to", "message-id": "message_id"}.get(str(name).lower())
            if field:
                content = given["headers"].pop(name)
                given[field] = given.get(field) or content
        return given

    @field_validator("headers")
    @classmethod
    def _own_headers_only(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            lowered = name.lower()
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a header name")
            if lowered in MODELLED_HEADERS or lowered.startswith(("content-", "resent-")):
                raise ValueError(f"{name} cannot be set as a header; use the message's fields")
        return headers

    @field_validator("message_id")
    @classmethod
    def _bracketed(cls, value: str | None) -> str | None:
        if value is None:
            return None
        bare = value.strip().removeprefix("<").removesuffix(">")
        if not re.fullmatch(r"[!-;=?A-~]+@[!-;=?A-~]+", bare) or len(bare) > 250:
            raise ValueError("must look like <unique@domain>")
        return f"<{bare}>"

    @computed_once
    def date(self) -> datetime:
        """What its Date header says, where `headers` have none.

        As a transport gets it: when it was accepted, or its `send_at`; the same at every account and attempt. Before
        that, the moment this is first asked for.
        """
        return datetime.now(UTC)

    def without(self, addresses: Iterable[str]) -> Self:
        """Return this e-mail as if it had never named these recipients: not in its headers either."""
        gone = frozenset(addresses)
        fields = {name: tuple(a for a in getattr(self, name) if a.email not in gone) for name in ("to", "cc", "bcc")}
        merge_data = {email: data for email, data in self.merge_data.items() if email not in gone}
        recipients = tuple(recipient for recipient in self.recipients if recipient not in gone)
        return self.stamped(**fields, merge_data=FrozenDict(merge_data), recipients=recipients)

    def _check(self) -> None:
        if not self.recipients:  # worked out here, so that no send pays for it
            raise ValueError("needs at least one recipient in to, cc or bcc")
        if self.size > LARGEST_EMAIL:
            raise ValueError(f"is larger than {LARGEST_EMAIL:,} bytes; send a link to the large attachment instead")
        strangers = set(self.merge_data) - {a.email for a in (*self.to, *self.cc, *self.bcc)}
        if strangers:
            raise ValueError(f"merge_data names {min(strangers)!r}, which is not a recipient")

    @property
    def size(self) -> int:
        """Characters of all its texts, and bytes of all attachments, before anything is encoded."""
        size = self.header_size
        for body in (self.text, self.html, self.amp, self.calendar):
            size += len(body) if body else 0
        for attachment in self.attachments:
            size += len(attachment.content)
        return size + sum(map(len, self.metadata.values())) if self.metadata else size

    @property
    def header_size(self) -> int:
        """Characters of the subject, the headers, and the names of all it is from and to."""
        size = len(self.subject)
        for addresses in (self.to, self.cc, self.bcc, self.reply_to):
            for address in addresses:
                size += len(address.name)
        return size + sum(map(len, self.headers.values())) if self.headers else size

    def _all_recipients(self) -> Iterable[str]:
        return (address.email for group in (self.to, self.cc, self.bcc) for address in group)

    @property
    def features(self) -> frozenset[str]:
        """What this e-mail uses, in the words of `postroom.plugin.EMAIL_FEATURES`."""
        used = {name for name in _EMAIL_FEATURE_FIELDS & self.__pydantic_fields_set__ if self.__dict__[name]}
        if self.attachments and any(attachment.inline for attachment in self.attachments):
            used.add("inline")
        if self.priority != "normal":
            used.add("priority")
        addresses = (*self.to, *self.cc, *self.bcc, *self.reply_to, *((self.from_,) if self.from_ else ()))
        for address in addresses:
            if not address.email.isascii() and address.ascii_email is None:
                used.add("international_addresses")
        return frozenset(used)


class Sms(Message):
    """A text message.

    `to` takes one number or several, in international form; `from_` (or `from`) a number, a short code or an
    alphanumeric sender, by default the account's. `media` are URLs the provider fetches (MMS). `channel` is
    `sms`, or `whatsapp` where the provider can. Raises InvalidAddress or MessageError.
    """

    channel_name: ClassVar[Channel] = Channel.SMS

    to: PhoneNumbers
    from_: Line | None = Field(
        default=None, validation_alias=AliasChoices("from", "from_"), serialization_alias="from", max_length=64
    )
    body: Text = Field(default="", max_length=100_000)
    media: Annotated[tuple[Line, ...], BeforeValidator(as_list)] = ()
    channel: Literal["sms", "whatsapp"] = "sms"

    @model_validator(mode="before")
    @classmethod
    def _read_whatsapp_prefix(cls, value: object) -> object:
        if not isinstance(value, dict) or "to" not in value:
            return value
        numbers = as_list(value["to"])
        if not isinstance(numbers, (list, tuple)) or not numbers:
            return value
        if not all(isinstance(n, str) and n.startswith("whatsapp:") for n in numbers):
            return value
        bare = tuple(n.removeprefix("whatsapp:") for n in numbers)
        return {**value, "to": bare, "channel": "whatsapp"}

    @field_validator("media")
    @classmethod
    def _web_addresses(cls, media: tuple[str, ...]) -> tuple[str, ...]:
        for url in media:
            if not re.fullmatch(r"https?://[^\s]+", url):
                raise ValueError(f"{url!r} is not an http(s) URL")
        return media

    @field_validator("body")
    @classmethod
    def _no_nul(cls, body: str) -> str:
        if "\0" in body:
            raise ValueError("must not contain NUL")
        return body

    def _check(self) -> None:
        if not self.recipients:
            raise ValueError("needs at least one recipient in to")
        if not (self.body or self.media or self.provider_options):
            raise ValueError("needs a body or media")

    @property
    def segments(self) -> Segments:
        """The parts the body is sent and billed as."""
        return count_segments(self.body)

    def for_recipients(self, addresses: Iterable[str]) -> Self:
        """Return this message to some of its recipients only."""
        chosen = frozenset(addresses)
        left = tuple(number for number in self.recipients if number in chosen)
        return self.stamped(to=left, recipients=left)

    def _all_recipients(self) -> Iterable[str]:
        return self.to

    @property
    def features(self) -> frozenset[str]:
        """What this SMS uses, in the words of `postroom.plugin.SMS_FEATURES`."""
        used = {name for name in _SMS_FEATURE_FIELDS & self.__pydantic_fields_set__ if getattr(self, name)}
        if self.channel != "sms":
            used.add(self.channel)
        return frozenset(used)


_EMAIL_FEATURE_FIELDS = frozenset(
    {"cc", "bcc", "reply_to", "html", "attachments", "headers", "tags", "metadata", "template", "merge_data"}
) | {"calendar", "amp", "send_at", "provider_options"}
_SMS_FEATURE_FIELDS = frozenset({"media", "send_at", "provider_options"})
