"""The Communicate REST API: four endpoints that take messages in."""

from __future__ import annotations

import asyncio
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from postroom.delivery.routing import accounts_by_rule, names_chosen
from postroom.errors import PostroomError
from postroom.gateway.access.keys import check_scope, forbidden
from postroom.gateway.http.errors import ApiError, from_postroom_error
from postroom.gateway.http.requests import state_of
from postroom.gateway.http.responses import JsonResponse
from postroom.gateway.parsing.email import parse_email
from postroom.gateway.parsing.process import AT_ONCE
from postroom.gateway.parsing.sms import parse_sms
from postroom.messages import Email

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request
    from starlette.responses import Response

    from postroom.client import Postroom
    from postroom.gateway.access.authentication import Authenticator
    from postroom.gateway.access.keys import ApiKey
    from postroom.gateway.access.quotas import Quotas
    from postroom.gateway.access.rate_limits import RateLimiter
    from postroom.gateway.api.sender_names import SenderNames
    from postroom.gateway.api.unsubscribe import UnsubscribeLinks
    from postroom.gateway.http.body import BodyReader
    from postroom.gateway.parsing.bodies import Read
    from postroom.gateway.parsing.process import MessageParser
    from postroom.messages import Sms
    from postroom.outbox.records import EnqueueResult

IDEMPOTENCY_KEY = r'^(?:"[ -~]{1,200}"|[!#-~][ -~]{0,199})$'
"""What an Idempotency-Key is, here and in the description: 1 to 200 printable ASCII characters, plain or in quotes."""
_KEY = re.compile(IDEMPOTENCY_KEY)


class CommunicateApi:
    """Takes messages in: 202 means that they are on disk."""

    def __init__(
        self,
        room: Postroom,
        *,
        authenticator: Authenticator,
        rate_limiter: RateLimiter,
        quotas: Quotas,
        reader: BodyReader,
        parser: MessageParser,
        unsubscribe_links: UnsubscribeLinks,
        sender_names: SenderNames | None = None,
    ) -> None:
        self._room = room
        self._names = room.config.names_in_use
        self._parser = parser
        self._authenticator = authenticator
        self._rate_limiter = rate_limiter
        self._quotas = quotas
        self._reader = reader
        self._unsubscribe_links = unsubscribe_links
        self._sender_names = sender_names
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def email(self, request: Request) -> Response:
        """Send an email."""
        return await self._single(request, parse_email)

    async def sms(self, request: Request) -> Response:
        """Send an SMS."""
        return await self._single(request, parse_sms)

    async def email_batch(self, request: Request) -> Response:
        """Send batch emails."""
        return await self._batch(request, "emails", parse_email)

    async def sms_batch(self, request: Request) -> Response:
        """Send batch SMS."""
        return await self._batch(request, "sms", parse_sms)

    async def _single(self, request: Request, read: Read) -> Response:
        key = await self._authenticator.authenticate(request)
        headers = await self._rate_limiter.consume(key, "requests")
        idempotency_key = idempotency_key_of(request.headers)
        body, as_form = await self._reader.message_body(request)
        message = self._permitted(await self._parser.single(body, as_form, read), key, idempotency_key)
        (answer,), more = await self._accept([message], key, idempotency_key)
        headers |= more
        if isinstance(answer, ApiError):
            raise answer
        state_of(request.scope).messages = 1
        if answer.replayed:
            headers["idempotency-replayed"] = "true"
        return JsonResponse(202, accepted(answer, message), headers)

    async def _batch(self, request: Request, name: str, read: Read) -> Response:
        key = await self._authenticator.authenticate(request)
        headers = await self._rate_limiter.consume(key, "requests")
        idempotency_key = idempotency_key_of(request.headers)
        body, as_form = await self._reader.message_body(request)
        items = await self._parser.batch(body, as_form, name, read)
        results: list[dict[str, Any] | None] = [None] * len(items)
        good: dict[int, Email | Sms] = {}
        for index, item in enumerate(items):
            if index % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            own_key = f"{idempotency_key}/{index}" if idempotency_key else None
            try:
                good[index] = self._permitted(item, key, own_key)
            except ApiError as error:
                results[index] = _rejected(index, error)
        if good:
            answers, more = await self._accept([*good.values()], key, idempotency_key)
            headers |= more
            for (index, message), answer in zip(good.items(), answers, strict=True):
                results[index] = _result(index, answer, message)
        return _batch_response(request, results, headers)

    def _permitted(self, message: Email | Sms | ApiError, key: ApiKey, idempotency_key: str | None) -> Email | Sms:
        """Return `message`, if there is one and the key may send it. Raises ApiError."""
        if isinstance(message, ApiError):
            raise message
        self._check_provider(message, key)
        by_number = self._quotas.depends_on_numbers(message)
        destinations = self._destinations(message) if key.scope.accounts or by_number else ()
        chosen = names_chosen(self._room.config, message) if key.scope.accounts else frozenset()
        if key.scope.restricted or message.from_ is not None:
            check_scope(key.scope, message, destinations, chosen)
        if by_number:
            self._quotas.check_numbers(message, destinations, accounts_by_rule(self._room.config, message))
        if isinstance(message, Email):
            if self._sender_names:
                self._sender_names.check(message)
            message = self._unsubscribe_links.add_to(message)
        return message.stamped(idempotency_key=idempotency_key) if idempotency_key else message

    def _check_provider(self, message: Email | Sms, key: ApiKey) -> None:
        """Raise ApiError (403) for a provider that nothing here is set up for, unless the key lists it.

        A message may bring the credentials for it. Without that, `memory` would keep what anybody sends, and `console`
        would write it into the log.
        """
        name = message.provider
        if name is None or message.options or name in self._names or name in key.scope.accounts:
            return
        if self._room.registry.knows(name):
            raise forbidden("This service has no account of that provider; leave provider out, or name an account.")

    def _destinations(self, message: Email | Sms) -> tuple[str, ...]:
        try:
            targets = self._room.targets(message)
        except PostroomError as error:
            raise from_postroom_error(error) from None
        return tuple(target.name for target in targets)

    async def _accept(
        self, messages: Sequence[Email | Sms], key: ApiKey, idempotency_key: str | None
    ) -> tuple[list[EnqueueResult | ApiError], dict[str, str]]:
        """Store messages; one answer for each, and the RateLimit headers. Raises ApiError (413, 429).

        Only what is new counts against limits and quotas: what is repeated under its idempotency key makes no message.
        Two requests with one key are therefore looked at one after the other.
        """
        async with self._one_at_a_time(key, idempotency_key):
            used = await self._room.outbox.used_keys(messages, tenant=key.id)
            new = [index for index, message in enumerate(messages) if message.idempotency_key not in used]
            headers = await self._rate_limiter.consume(key, "messages", len(new)) if new else {}
            times = await self._quotas.reserve(key, [messages[index] for index in new])
            held = dict(zip(new, times, strict=True)) if times else {}
            held_until = [held.get(index, 0.0) for index in range(len(messages))] if held else ()
            answers = await self._room.outbox.add(messages, tenant=key.id, held_until=held_until)
        errors = (from_postroom_error(answer) if isinstance(answer, PostroomError) else answer for answer in answers)
        return list(errors), headers

    def _one_at_a_time(self, key: ApiKey, idempotency_key: str | None) -> AbstractAsyncContextManager[object]:
        if idempotency_key is None:
            return nullcontext()
        return self._locks.setdefault((key.id, idempotency_key), asyncio.Lock())


def idempotency_key_of(headers: Mapping[str, str]) -> str | None:
    """Return the Idempotency-Key, with or without the quotes draft-ietf-httpapi-idempotency-key-header asks for."""
    given = headers.get("idempotency-key")
    if given is None:
        return None
    if not _KEY.fullmatch(given):
        raise ApiError(
            400,
            "invalid_idempotency_key",
            "Idempotency-Key must be 1 to 200 printable ASCII characters; a quote that begins it also ends it.",
        )
    return given[1:-1] if given.startswith('"') else given


def accepted(stored: EnqueueResult, message: Email | Sms) -> dict[str, Any]:
    """Return what the API says of a message it has taken; of one that is repeated, what it said before."""
    status = str(stored.accepted_as)
    recipients = [{"address": address, "status": status} for address in message.recipients]
    return {"id": stored.receipt.id, "status": status, "recipients": recipients}


def _result(index: int, answer: EnqueueResult | ApiError, message: Email | Sms) -> dict[str, Any]:
    return _rejected(index, answer) if isinstance(answer, ApiError) else {"index": index, **accepted(answer, message)}


def _rejected(index: int, error: ApiError) -> dict[str, Any]:
    return {"index": index, **error.to_json()}


def _batch_response(
    request: Request, results: Sequence[Mapping[str, Any] | None], headers: Mapping[str, str]
) -> Response:
    rejected = sum("error" in result for result in results if result)
    body: dict[str, Any] = {"accepted": len(results) - rejected, "rejected": rejected, "results": results}
    state = state_of(request.scope)
    state.messages = body["accepted"]
    if rejected < len(results):
        return JsonResponse(202, body, headers)
    error = ApiError(400, "invalid_batch", "No message of the batch could be taken; see results.", extra=body)
    state.error = error.code
    return JsonResponse(error.status, error.to_json(), headers)
