"""What a SendGrid account can be told."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, SecretStr

from postroom.plugin import HttpAccountSettings

HOSTS = {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}
"""The API's address by region: twilio.com/docs/sendgrid/api-reference/mail-send, "Base URL"."""


def _key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if not re.fullmatch(r"[!-~]+", key):
        raise ValueError("must be printable ASCII without spaces or line ends")
    if key == "apikey":
        raise ValueError("is the user name of SendGrid's SMTP service; give the key itself, as in sendgrid://KEY@")
    return value


class SendGridSettings(HttpAccountSettings):
    """`api_key` needs the scope `mail.send`.

    `region` is where the account's data lives (`global` or `eu`). With `sandbox` SendGrid checks every request and
    sends nothing.
    """

    environment: ClassVar[dict[str, str]] = {"api_key": "SENDGRID_API_KEY"}
    url_fields: ClassVar[dict[str, str]] = {"username": "api_key", "password": "api_key"}

    provider: str = "sendgrid"
    api_key: Annotated[SecretStr, AfterValidator(_key)]
    region: Literal["global", "eu"] = "global"
    sandbox: bool = False
