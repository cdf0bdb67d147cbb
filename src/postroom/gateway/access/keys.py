"""API keys: how they look, how they are kept, what they may do, and where a request presents one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import re
import secrets
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Self

from postroom.gateway.http.errors import ApiError
from postroom.gateway.http.requests import query_pairs
from postroom.receipts import Channel, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from postroom.messages import Email, Sms

_log = logging.getLogger("postroom.gateway")

KEY = re.compile(r"[a-z]{2}--[A-Za-z0-9_\-]{16,128}")
COOKIE = "auth_token"
QUERY = "auth_token"

KeySource = Literal["header", "bearer", "query", "cookie"]
KEY_SOURCES: tuple[KeySource, ...] = ("header", "bearer", "query", "cookie")
"""In which order the places are looked at: `Auth-token`, `Authorization: Bearer`, `?auth_token=`, the cookie.

The first that holds anything counts, and a wrong key there is not made good by a right one further on.
"""


class KeyScope(Record):
    """Scope of a key: what it may do; an empty list allows everything.

    `channels`, and `accounts` (accounts, routes or providers, as `provider` names them). `senders` are what an
    SMS or an e-mail may give as `from`; an e-mail may only choose a sender that is listed. With `suppressions` it may
    see and change who is not written to.
    """

    channels: tuple[Channel, ...] = ()
    accounts: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    suppressions: bool = False

    @property
    def restricted(self) -> bool:
        return bool(self.channels or self.accounts or self.senders)


class ApiKey(Record):
    """An API key as it is kept: never its text."""

    id: str
    name: str = ""
    digest: str
    scope: KeyScope = KeyScope()
    created_at: datetime
    revoked_at: datetime | None = None
    flagged_at: datetime | None = None
    suspended_at: datetime | None = None

    @classmethod
    def generate(cls, region: str, *, name: str, scope: KeyScope, now: datetime) -> tuple[Self, str]:
        """Return a new key and its text, which nobody can read again later."""
        text = f"{region}--{secrets.token_urlsafe(32)}"
        return cls(id=f"key_{secrets.token_hex(8)}", name=name, digest=digest(text), scope=scope, created_at=now), text

    def matches(self, text: str) -> bool:
        """Whether `text` is this key, in a time that does not depend on where they differ."""
        return hmac.compare_digest(self.digest, digest(text))


KEY_COLUMNS = "id, name, digest, scope, created_at, revoked_at, flagged_at, suspended_at"


@lru_cache(maxsize=1024)
def key_of_row(row: tuple[Any, ...]) -> ApiKey | None:
    """Read a row of KEY_COLUMNS, whose times are Unix seconds; None for a damaged one, which opens nothing."""
    id_, name, digest, scope, created_at, *marks = row
    try:
        revoked_at, flagged_at, suspended_at = (_moment(mark) for mark in marks)
        return ApiKey(
            id=_text(id_),
            name=_text(name),
            digest=_text(digest),
            scope=KeyScope.model_validate_json(scope),
            created_at=datetime.fromtimestamp(created_at, UTC),
            revoked_at=revoked_at,
            flagged_at=flagged_at,
            suspended_at=suspended_at,
        )
    except (ValueError, TypeError, OverflowError, OSError):
        _log.error("API key %s cannot be read back from the outbox, so it is refused; make another one", id_)
        return None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def digest(text: str) -> str:
    """Return what is stored of a key.

    A plain SHA-256 is right here, where it would be wrong for a password: a key is 256 random bits, so there
    is no list of likely ones to try, and a slow hash would only slow down every request.
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def presented_key(headers: Mapping[str, str], query: str) -> tuple[str, KeySource] | None:
    """Return the key a request presents and where it stood, or None; `headers` have lower-case names.

    Raises ApiError (400) for a query that gives it twice, in whatever spelling: one of the two would be looked at,
    and the other one written to somebody's log.
    """
    found = {
        "header": headers.get("auth-token", "").strip(),
        "bearer": _bearer(headers.get("authorization", "")),
        "query": _in_query(query),
        "cookie": _cookie(headers.get("cookie", "")),
    }
    return next(((found[source], source) for source in KEY_SOURCES if found[source]), None)


def _in_query(query: str) -> str:
    given = [value for name, value in query_pairs(query) if name == QUERY] if query else []
    if len(given) > 1:
        raise ApiError(400, "invalid_request", "auth_token is given twice in the query; give it once.")
    return given[0] if given else ""


def _bearer(value: str) -> str:
    """Return a bearer token, given as it is or in base64 (as the pages of the API show it)."""
    scheme, _, token = value.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or KEY.fullmatch(token):
        return token if scheme.lower() == "bearer" else ""
    try:
        decoded = base64.b64decode(token, validate=True).decode("ascii").strip()
    except (binascii.Error, ValueError):
        return token
    return decoded if KEY.fullmatch(decoded) else token


def _cookie(header: str) -> str:
    """Return the value of our cookie, the first if there are several (RFC 6265 section 5.4: the most specific).

    `http.cookies` is not used: its pattern for quoted values takes time by the square of their length (bpo-39385 and
    gh-123067, mended in Python 3.12.6 only), which no header of a stranger may.
    """
    for pair in header.split(";") if COOKIE in header else ():
        name, _, value = pair.partition("=")
        if name.strip() == COOKIE:
            return value.strip().strip('"')
    return ""


def not_authorised(message: str) -> ApiError:
    return ApiError(401, "not_authorised", message, headers={"www-authenticate": "Bearer"})


def key_suspended() -> ApiError:
    return ApiError(
        403,
        "suspended",
        "This key is suspended because it went on over its limit; its operator can lift it: postroom keys unsuspend.",
    )


def check_scope(
    scope: KeyScope, message: Email | Sms, accounts: tuple[str, ...], chosen: frozenset[str] = frozenset()
) -> None:
    """Raise ApiError (403) unless a key of `scope` may send `message`.

    `accounts` are all that it, or a part of it, might go through; `chosen` the routes, accounts or providers that the
    message names, or rules and defaults choose for it. The key must be allowed each of the one or each of the other.
    """
    if scope.channels and message.channel_name not in scope.channels:
        raise forbidden(f"This key may not send {message.channel_name}.")
    own = {*scope.accounts}
    if own and not any(names and own.issuperset(names) for names in (accounts, chosen)):
        raise forbidden("This key may not use that provider or account.")
    sender = message.from_
    if sender is None:
        return
    named = sender if isinstance(sender, str) else sender.email
    if (scope.senders and named not in scope.senders) or (not scope.senders and not isinstance(sender, str)):
        raise forbidden("This key may not send from that sender; leave it out for the account's own.")


def forbidden(message: str) -> ApiError:
    return ApiError(403, "forbidden", message)
