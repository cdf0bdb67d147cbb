"""Webhook verification: a token that names the body's hash (Messages API), or a signature over the fields.

Source: developer.vonage.com, "Webhooks", section on decoding signed webhooks, and "Signing Messages". The SDK's own
verifiers check neither the body's hash nor the age (measured against vonage-jwt 1.1.5).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic_core import from_json

from postroom.errors import PayloadInvalid, SignatureInvalid
from postroom_vonage.auth import signature

if TYPE_CHECKING:
    from postroom.plugin import WebhookRequest
    from postroom_vonage.settings import VonageSettings

LARGEST = 1_048_576
"""Bytes of a body; the longest text has 4,096 characters, and media come as URLs."""

MOST_FIELDS = 1000

LEEWAY = 60
"""Seconds by which Vonage's clock may be ahead of ours."""

Payload = dict[str, Any]


def verified(account: str, settings: VonageSettings, request: WebhookRequest) -> Payload:
    """Return the fields of a request that Vonage signed for this account.

    Raises SignatureInvalid, and PayloadInvalid for what is signed and cannot be read.
    """
    if len(request.body) > LARGEST:
        raise PayloadInvalid(f"{account}: the webhook has more than {LARGEST:,} bytes")
    secret = check_head(account, settings, request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        _check_claims(account, settings, request.body, _claims(account, secret, token.strip()))
        return _object(account, request.body)
    fields = _fields(account, request)
    _check_signature(account, settings, secret, fields)
    return fields


def check_head(account: str, settings: VonageSettings, request: WebhookRequest) -> str:
    """Return the secret that the account's requests are signed with; raises SignatureInvalid where none can be.

    A token stands in the head and can be checked before the body is there; a signature over the fields cannot.
    """
    secret = settings.signature_secret.get_secret_value() if settings.signature_secret else ""
    if not secret:
        raise SignatureInvalid(f"{account}: takes no webhooks; set signature_secret, which Vonage's dashboard shows")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        _claims(account, secret, token.strip())
    return secret


def _claims(account: str, secret: str, token: str) -> Payload:
    from jwt import InvalidTokenError, decode  # noqa: PLC0415 - brings cryptography; only accounts with webhooks need it

    try:
        with warnings.catch_warnings(action="ignore"):  # of short keys: Vonage chooses how long its secrets are
            return decode(token, secret, algorithms=["HS256"], leeway=LEEWAY, options={"require": ["iat"]})
    except (InvalidTokenError, ValueError) as error:
        raise SignatureInvalid(
            f"{account}: the webhook's token does not hold ({error}); check signature_secret and the clock"
        ) from None


def _check_claims(account: str, settings: VonageSettings, body: bytes, claims: Payload) -> None:
    """The token must be for this account, young, and about this very body."""
    if time.time() - float(claims["iat"]) > settings.webhook_max_age:
        raise SignatureInvalid(
            f"{account}: the webhook was signed more than {settings.webhook_max_age:g} s ago; check the clock, or "
            "raise webhook_max_age"
        )
    for name in ("api_key", "application_id"):
        ours = getattr(settings, name)
        if ours and name in claims and claims[name] != ours:
            raise SignatureInvalid(f"{account}: the webhook is for another {name}; check which URL Vonage was given")
    given = claims.get("payload_hash")
    if not isinstance(given, str) or not _same(given, hashlib.sha256(body).hexdigest()):
        raise SignatureInvalid(
            f"{account}: the webhook's token does not name this body's hash; set the webhook's method to POST, and "
            "check that nothing on the way changes the body"
        )


def _check_signature(account: str, settings: VonageSettings, secret: str, fields: Payload) -> None:
    given = fields.get("sig")
    if not isinstance(given, str) or not given:
        raise SignatureInvalid(
            f"{account}: the webhook has neither a token nor a sig; have signed webhooks switched on at Vonage"
        )
    if not all(isinstance(value, (str, int, float)) for value in fields.values()):
        raise SignatureInvalid(f"{account}: the webhook has a sig, and fields that no signature covers")
    if any("&" in name or "=" in name for name in fields):
        raise SignatureInvalid(
            f"{account}: the webhook has a field with & or = in its name, so that other fields have the same signature"
        )
    signed = {name: str(value) for name, value in fields.items() if name != "sig"}
    if not _same(given, signature(signed, secret, settings.signature_method)):
        raise SignatureInvalid(
            f"{account}: the webhook's sig does not fit; check signature_secret, and that signature_method is the one "
            "chosen in Vonage's dashboard"
        )
    moment = signed.get("timestamp", "")
    if not re.fullmatch(r"[0-9]{1,12}", moment):
        raise SignatureInvalid(
            f"{account}: the webhook is signed without a timestamp in whole seconds, so that anybody could repeat it"
        )
    age = time.time() - int(moment)
    if not -LEEWAY <= age <= settings.webhook_max_age:
        raise SignatureInvalid(
            f"{account}: the webhook was signed more than {settings.webhook_max_age:g} s ago or in the future; check "
            "the clock, or raise webhook_max_age"
        )


def _same(given: str, ours: str) -> bool:
    """Vonage writes hexadecimal digits in either case."""
    return hmac.compare_digest(given.lower().encode(), ours.encode())


def _fields(account: str, request: WebhookRequest) -> Payload:
    """The SMS API's fields, wherever the dashboard says that Vonage puts them: query, form or JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            return _object(account, request.body)
        except PayloadInvalid as error:
            raise SignatureInvalid(f"{error}; so nothing in it is a sig") from None
    try:
        raw = request.body or urlsplit(request.url).query.encode()
        pairs = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise SignatureInvalid(f"{account}: the webhook has no token, and no form in which a sig could be") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise SignatureInvalid(f"{account}: the webhook gives a field twice, and a sig covers one of them")
    return fields


def _object(account: str, body: bytes) -> Payload:
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise PayloadInvalid(f"{account}: the webhook is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise PayloadInvalid(f"{account}: the webhook is not a JSON object")
    return found
