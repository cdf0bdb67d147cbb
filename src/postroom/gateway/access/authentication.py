"""Authentication: the API key a request presents, and whether it is good."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from postroom.gateway.access.keys import digest, key_suspended, not_authorised, presented_key
from postroom.gateway.http.errors import ApiError
from postroom.gateway.http.requests import headers_of, query_of, state_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from postroom.config.gateway import GatewaySettings
    from postroom.gateway.access.keys import ApiKey
    from postroom.gateway.access.storage import AccessStorage

UNKNOWN_KEY = "The auth_token provided doesn't belong to any user."
"""As the pages of the API show it."""


class Authenticator:
    """Finds the key of a request: ApiError 401 without a good one, 403 when it is suspended."""

    def __init__(self, storage: AccessStorage, settings: GatewaySettings) -> None:
        self._storage = storage
        self._settings = settings

    async def authenticate(self, request: Request) -> ApiKey:
        """Return the key a request presents. Raises ApiError (401, 403)."""
        headers = headers_of(request.scope)
        found = presented_key(headers, query_of(request.scope))
        if found is None:
            raise not_authorised("No key was presented; send one as Auth-token, or make one: postroom keys create.")
        text, source = found
        key = await self._storage.find_key(digest(text))
        if key is None or key.revoked_at or not key.matches(text):
            raise not_authorised(UNKNOWN_KEY)
        if source == "cookie" and request.method not in {"GET", "HEAD"}:
            self._check_same_site(headers)
        if key.suspended_at:
            raise key_suspended()
        state_of(request.scope).key_id = key.id
        return key

    def _check_same_site(self, headers: Mapping[str, str]) -> None:
        """Refuse what a page of another site made a browser send along with its cookie."""
        origin = headers.get("origin", "")
        own = urlsplit(origin).netloc == headers.get("host", "") or origin in self._settings.cors_origins
        if (origin and not own) or headers.get("sec-fetch-site", "none") == "cross-site":
            raise ApiError(
                403, "forbidden", "A cookie is not taken from pages of another site; send Auth-token instead."
            )
