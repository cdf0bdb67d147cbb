"""Who may come in: the key a request presents, whether it is good, and how much it has used."""

from __future__ import annotations

import logging
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from postroom.gateway.access.keys import not_authorised, presented
from postroom.gateway.access.rate_limits import Denied
from postroom.gateway.http.errors import ApiError
from postroom.gateway.http.middleware import headers_of, query_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from postroom.config.gateway import GatewaySettings
    from postroom.gateway.access.keys import Key
    from postroom.gateway.access.rate_limits import Counted, Granted
    from postroom.gateway.access.storage import AccessStorage

_log = logging.getLogger("postroom.gateway")

UNKNOWN_KEY = "The auth_token provided doesn't belong to any user."
"""As the pages of the API show it."""


class Authenticator:
    """Lets requests in, or raises Refusal: 401 without a good key, 403 when it is suspended, 429 over a limit."""

    def __init__(self, access_storage: AccessStorage, settings: GatewaySettings) -> None:
        self._ledger = access_storage
        self._settings = settings

    def key(self, request: Request) -> Key:
        """Return the key a request presents. Raises Refusal (401, 403)."""
        headers = headers_of(request.scope)
        found = presented(headers, query_of(request.scope))
        if found is None:
            raise not_authorised("No key was presented; send one as Auth-token, or make one: postroom keys create.")
        text, way = found
        key = self._ledger.key(text)
        if key is None or key.revoked_at:
            raise not_authorised(UNKNOWN_KEY)
        if way == "cookie" and request.method not in {"GET", "HEAD"}:
            self._same_site(headers)
        if key.suspended_at:
            raise ApiError(403, "suspended", _SUSPENDED)
        request.scope["postroom.key"] = key.id
        return key

    async def count(self, key: Key, counted: Counted, cost: int = 1) -> dict[str, str]:
        """Count what a key does and return the headers that tell how much is left. Raises Refusal (403, 429)."""
        answer = await self._ledger.take(key.id, counted, cost)
        if answer is None:
            return {}
        if isinstance(answer, Denied):
            raise self._over(key, counted, answer)
        return _rate_headers(answer)

    def _over(self, key: Key, counted: Counted, denied: Denied) -> ApiError:
        if denied.suspended:
            _log.warning("key %s (%s) went on over its limit and was suspended", key.id, key.name)
            return ApiError(403, "suspended", _SUSPENDED)
        if denied.flagged:
            _log.warning("key %s (%s) goes on over its limit: flagged for suspension", key.id, key.name)
        if math.isinf(denied.free_at):
            return ApiError(
                413, "too_large", f"This is more than {denied.limit} {counted} ever allow; send less at once."
            )
        flagged = denied.flagged or key.flagged_at is not None
        return too_many(denied, counted, flagged=flagged, explained_at=f"{self._settings.public_url or ''}/docs")

    def _same_site(self, headers: Mapping[str, str]) -> None:
        """Refuse what a page of another site made a browser send along with its cookie."""
        origin = headers.get("origin", "")
        own = urlsplit(origin).netloc == headers.get("host", "") or origin in self._settings.cors_origins
        if (origin and not own) or headers.get("sec-fetch-site", "none") == "cross-site":
            raise ApiError(
                403, "forbidden", "A cookie is not taken from pages of another site; send Auth-token instead."
            )


def too_many(denied: Denied, counted: Counted, *, flagged: bool, explained_at: str) -> ApiError:
    """Return the 429 the pages of the API show, with the headers programs look for."""
    wait = max(1, math.ceil(denied.free_at - time.time()))
    valid = datetime.fromtimestamp(denied.free_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    warning = " This key has been flagged, and will be suspended if it goes on." if flagged else ""
    return ApiError(
        429,
        "rate_limited",
        f"Too many {counted} in this time frame; please try again in {_spoken(wait)}.{warning}",
        headers={
            "retry-after": str(wait),
            "ratelimit-policy": f'"{counted}";q={denied.limit.count};w={denied.limit.window}',
            "ratelimit": f'"{counted}";r=0;t={wait}',
        },
        extra={"referenceUrl": explained_at, "nextValidRequestDate": valid},
    )


def _rate_headers(granted: Granted) -> dict[str, str]:
    """Say what is left (draft-ietf-httpapi-ratelimit-headers-10)."""
    limit = granted.limit
    return {
        "ratelimit-policy": f'"default";q={limit.count};w={limit.window}',
        "ratelimit": f'"default";r={max(0, granted.remaining)};t={limit.window}',
    }


def _spoken(seconds: int) -> str:
    if seconds < 90:
        return "a second" if seconds == 1 else f"{seconds} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.0f} hours"


_SUSPENDED = (
    "This key is suspended because it went on over its limit; its operator can lift it: postroom keys unsuspend."
)
