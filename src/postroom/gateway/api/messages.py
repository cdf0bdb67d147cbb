"""`/v1/messages`: list, show, cancel, retry, resolve; a key sees only its own messages."""

from __future__ import annotations

import asyncio
import base64
import binascii
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from weakref import WeakValueDictionary

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from postroom.errors import MessageNotFound, OutboxError, SearchTooBroad, StateConflict
from postroom.gateway.access.keys import QUERY
from postroom.gateway.http.errors import ApiError, Problem, from_postroom_error
from postroom.gateway.http.requests import query_of, query_pairs
from postroom.gateway.http.responses import JsonResponse
from postroom.messages import Email, Sms
from postroom.outbox.records import NOW
from postroom.outbox.states import WAITING, Transition, allowed_from
from postroom.outbox.views import MessageFilter
from postroom.receipts import Channel, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import datetime

    from starlette.requests import Request
    from starlette.responses import Response

    from postroom.events import Event
    from postroom.gateway.access.authentication import Authenticator
    from postroom.gateway.access.keys import ApiKey
    from postroom.gateway.access.quotas import Quotas
    from postroom.gateway.access.rate_limits import RateLimiter
    from postroom.gateway.http.body import BodyReader
    from postroom.outbox.outbox import Outbox
    from postroom.outbox.views import MessageDetails, MessageSummary
    from postroom.receipts import Receipt

M = TypeVar("M", bound=BaseModel)


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _seq_at(value: object) -> object:
    """Read a cursor: the place of a page's last message, in a form nobody is tempted to count with."""
    try:
        return int(base64.urlsafe_b64decode(f"{value}==").decode("ascii"))
    except (ValueError, binascii.Error):
        raise ValueError("is no cursor of this service") from None


def _iso(value: object) -> object:
    if isinstance(value, str) and "T" not in value.upper():
        raise ValueError("must be a time such as 2026-01-31T12:00:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_iso)]


class MessageQuery(BaseModel):
    """The query of `GET /v1/messages`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    status: Annotated[tuple[Status, ...], BeforeValidator(_split)] = Field(
        (), description="Only these statuses, with commas between them."
    )
    channel: Channel | None = None
    account: str | None = None
    to: str | None = Field(None, description="Only messages to recipients whose address holds this.")
    since: Time | None = Field(None, description="Accepted at this time or later.")
    until: Time | None = Field(None, description="Accepted before this time.")
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[int | None, Field(ge=1, lt=2**63), BeforeValidator(_seq_at)] = Field(
        None, description="`next` of the page before.", json_schema_extra={"type": "string"}
    )


class Resolution(BaseModel):
    """The body of `POST /v1/messages/{id}/resolve`."""

    outcome: Literal["sent", "failed", "retry"] = Field(
        description="It was sent; it was not and is given up; or it was not and is to be sent again."
    )
    note: str = Field("", max_length=500)


class MessagesApi:
    """The endpoints under `/v1/messages`."""

    def __init__(
        self,
        outbox: Outbox,
        authenticator: Authenticator,
        reader: BodyReader,
        *,
        rate_limiter: RateLimiter,
        quotas: Quotas,
    ) -> None:
        self._outbox = outbox
        self._authenticator = authenticator
        self._reader = reader
        self._rate_limiter = rate_limiter
        self._quotas = quotas
        self._searching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def list(self, request: Request) -> Response:
        """List messages, the newest first."""
        key = await self._authenticator.authenticate(request)
        wanted = validated(MessageQuery, query_parameters(request))
        selection = MessageFilter(
            status=wanted.status,
            channel=wanted.channel,
            account=wanted.account,
            tenant=key.id,
            to=wanted.to,
            since=wanted.since.timestamp() if wanted.since else None,
            until=wanted.until.timestamp() if wanted.until else None,
            before_seq=wanted.cursor,
            limit=wanted.limit + 1,
        )
        try:
            async with self._searching.setdefault(key.id, asyncio.Lock()):  # so that no key's searches pile up
                found = await self._outbox.list(selection)
        except SearchTooBroad as error:
            raise ApiError(400, error.code, f"{str(error)[0].upper()}{str(error)[1:]}.") from None
        except OutboxError as error:
            raise from_postroom_error(error) from None
        page, more = found[: wanted.limit], len(found) > wanted.limit
        return JsonResponse(
            200, {"messages": [_summary_json(line) for line in page], "next": _cursor(page[-1].seq) if more else None}
        )

    async def show(self, request: Request) -> Response:
        """Show everything known of one message but its contents."""
        key = await self._authenticator.authenticate(request)
        return JsonResponse(200, message_json(await self._found(request.path_params["id"], key)))

    async def cancel(self, request: Request) -> Response:
        """Stop a message that still waits."""
        key, shown = await self._asked(request)
        return await self._changed(key, self._outbox.cancel(shown.receipt.id, tenant=key.id))

    async def retry(self, request: Request) -> Response:
        """Send again what failed, expired, was cancelled or is in doubt; not to those who were accepted."""
        key, shown = await self._asked(request)
        until = await self._reserve(key, shown, Transition.REQUEUE)
        return await self._changed(key, self._outbox.retry(shown.receipt.id, tenant=key.id, held_until=until))

    async def resolve(self, request: Request) -> Response:
        """Settle a message in doubt."""
        key, shown = await self._asked(request)
        wanted = validated(Resolution, await self._reader.fields(request))
        again = wanted.outcome == "retry"
        until = await self._reserve(key, shown, Transition.LEARN_NOT_TAKEN) if again else NOW
        resolve = partial(self._outbox.resolve, shown.receipt.id, wanted.outcome, note=wanted.note)
        return await self._changed(key, resolve(tenant=key.id, held_until=until))

    async def _reserve(self, key: ApiKey, shown: MessageDetails, transition: Transition) -> float:
        """Count a message that is to be sent again as a new one; the time until which it is held. Raises ApiError.

        Otherwise what was cancelled, or failed, over days could all be sent at once. What waits was counted, and has
        not been sent since.
        """
        message, status = shown.message, shown.receipt.status
        if not isinstance(message, Email | Sms) or status not in allowed_from(transition) - WAITING:
            return NOW
        await self._rate_limiter.consume(key, "messages")
        return max(await self._quotas.reserve(key, [message]), default=NOW)

    async def _asked(self, request: Request) -> tuple[ApiKey, MessageDetails]:
        key = await self._authenticator.authenticate(request)
        return key, await self._found(request.path_params["id"], key)

    async def _changed(self, key: ApiKey, change: Awaitable[Receipt]) -> Response:
        try:
            receipt = await change
        except StateConflict as error:
            raise ApiError(409, error.code, str(error)) from None
        except OutboxError as error:
            raise from_postroom_error(error) from None
        return JsonResponse(200, message_json(await self._found(receipt.id, key)))

    async def _found(self, message_id: str, key: ApiKey) -> MessageDetails:
        try:
            return await self._outbox.get(message_id, tenant=key.id, contents=False)
        except MessageNotFound:
            raise ApiError(404, "not_found", "There is no such message, or it is another key's.") from None
        except OutboxError as error:
            raise from_postroom_error(error) from None


def query_parameters(request: Request) -> dict[str, str]:
    """Return the parameters of a query, but for the key. Raises ApiError (400) for one that is given twice."""
    query: dict[str, str] = {}
    for name, value in query_pairs(query_of(request.scope)):
        if name in query:
            problem = Problem(name[:100], "is given twice; several statuses stand with commas between them")
            raise ApiError(400, "invalid_request", f"{problem.field}: {problem.message}", (problem,))
        query[name] = value
    query.pop(QUERY, None)
    return query


def message_json(shown: MessageDetails) -> dict[str, Any]:
    """Return a message as the API shows it: what became of it, never its contents or credentials."""
    receipt: dict[str, Any] = shown.receipt.model_dump(mode="json")
    return {
        **receipt,
        "account": receipt["account"] or shown.account,
        "events": [_event_json(event) for event in shown.events],
        "created_at": _timestamp(shown.created_at),
        "due_at": _timestamp(shown.due_at),
        "expires_at": _timestamp(shown.expires_at),
        "settled_at": _timestamp(shown.settled_at),
    }


def validated(model: type[M], values: dict[str, Any]) -> M:
    """Return a body or query in its shape. Raises ApiError (400) with each wrong field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = tuple(
            Problem(".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, "))
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise ApiError(400, "invalid_request", f"{problems[0].field}: {problems[0].message}", problems) from None


def _summary_json(line: MessageSummary) -> dict[str, Any]:
    return line.model_dump(mode="json", exclude={"seq"})


def _event_json(event: Event) -> dict[str, Any]:
    return event.model_dump(mode="json", include={"type", "occurred_at", "recipient", "provider", "code", "detail"})


def _cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(str(seq).encode()).decode().rstrip("=")


def _timestamp(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
