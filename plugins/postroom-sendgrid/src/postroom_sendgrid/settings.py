"""Settings of a SendGrid account."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr

from postroom.plugin import HttpAccountSettings

HOSTS = {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}
"""The API's address by region: twilio.com/docs/sendgrid/api-reference/mail-send, "Base URL"."""


LONGEST_REPEATED = 90_000.0
"""Seconds, 25 hours: SendGrid repeats for up to 24 what was not answered with 2xx (twilio.com/docs/sendgrid, "Event
Webhook", troubleshooting), and does not say that it signs anew; a shorter time could lose reports."""


def _key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if not re.fullmatch(r"[!-~]+", key):
        raise ValueError("must be printable ASCII without spaces or line ends")
    if key == "apikey":
        raise ValueError("is the user name of SendGrid's SMTP service; give the key itself, as in sendgrid://KEY@")
    return value


_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
"""How the DER form of every key of the curve P-256 begins (RFC 5480 section 2); 64 bytes follow."""


def _verification_key(value: str) -> str:
    text = "".join(value.split())
    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if not key.startswith(_P256) or len(key) != len(_P256) + 64:
        raise ValueError(
            "must be the webhook's verification key as SendGrid's settings show it, which begins with MFkw"
        )
    return text


class SendGridSettings(HttpAccountSettings):
    """`api_key` needs the scope `mail.send`.

    `region` is where the account's data lives (`global` or `eu`). With `sandbox` SendGrid checks every request and
    sends nothing. `webhook_public_key` is the verification key of the account's Event Webhook, without which no events
    are taken; `webhook_max_age` is how many seconds ago one may have been signed, 25 hours unless it says otherwise.
    """

    env_vars: ClassVar[dict[str, str]] = {"api_key": "SENDGRID_API_KEY"}
    url_fields: ClassVar[dict[str, str]] = {"username": "api_key", "password": "api_key"}

    provider: str = "sendgrid"
    api_key: Annotated[SecretStr, AfterValidator(_key)]
    region: Literal["global", "eu"] = "global"
    sandbox: bool = False
    webhook_public_key: Annotated[str, AfterValidator(_verification_key)] | None = None
    webhook_max_age: float | None = Field(default=LONGEST_REPEATED, gt=0, allow_inf_nan=False)
