"""`/v1/suppressions`: the suppression list, for keys that may see and change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from postroom.errors import MessageError
from postroom.gateway.api.messages import query_parameters, validated
from postroom.gateway.http.errors import ApiError, Problem
from postroom.gateway.http.responses import JsonResponse
from postroom.outbox.suppression import by_hand
from postroom.receipts import Channel

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from postroom.gateway.access.authentication import Authenticator
    from postroom.gateway.http.body import BodyReader
    from postroom.outbox.records import Suppression
    from postroom.outbox.suppression import SuppressionList


class SuppressionQuery(BaseModel):
    """The query of `GET /v1/suppressions`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    channel: Channel | None = None
    after: str = Field("", description="`next` of the page before.")
    limit: Annotated[int, Field(ge=1, le=500)] = 100


class SuppressionBody(BaseModel):
    """The body of `POST /v1/suppressions`."""

    model_config = ConfigDict(hide_input_in_errors=True)

    channel: Channel
    address: str = Field(min_length=1, max_length=320)
    category: Literal["", "marketing", "transactional"] = Field("", description="Empty: messages of every category.")
    detail: str | None = Field(None, max_length=500)
    lifted: bool = Field(default=False, description="Write to this address again.")


class SuppressionsApi:
    """The endpoints under `/v1/suppressions`. The list is one for all keys, so a key needs the right to it."""

    def __init__(self, suppressions: SuppressionList, authenticator: Authenticator, reader: BodyReader) -> None:
        self._suppressions = suppressions
        self._authenticator = authenticator
        self._reader = reader

    async def list(self, request: Request) -> Response:
        """List who is not written to, by address."""
        await self._check_right(request)
        wanted = validated(SuppressionQuery, query_parameters(request))
        found = await self._suppressions.list(channel=wanted.channel, after=wanted.after, limit=wanted.limit + 1)
        page, more = found[: wanted.limit], len(found) > wanted.limit
        entries = [suppression_json(entry) for entry in page]
        return JsonResponse(200, {"suppressions": entries, "next": page[-1].place if more else None})

    async def put(self, request: Request) -> Response:
        """Stop writing to an address, or write to it again."""
        await self._check_right(request)
        given = validated(SuppressionBody, await self._reader.fields(request))
        try:
            entry = by_hand(given.channel, given.address, given.category, given.detail, lifted=given.lifted)
        except MessageError as error:
            problem = Problem("address", str(error))
            raise ApiError(400, "invalid_request", f"address: {error}", (problem,)) from None
        await self._suppressions.add(entry)
        return JsonResponse(200, suppression_json(entry))

    async def _check_right(self, request: Request) -> None:
        key = await self._authenticator.authenticate(request)
        if not key.scope.suppressions:
            raise ApiError(
                403, "forbidden", "This key may not see or change the suppression list; make one with --suppressions."
            )


def suppression_json(entry: Suppression) -> dict[str, Any]:
    """Return an entry as the API and `--json` show it."""
    return entry.model_dump(mode="json")
