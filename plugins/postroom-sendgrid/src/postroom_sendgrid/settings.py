"""What a SendGrid account can be told."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from postroom.plugin import HttpAccountSettings

HOSTS = {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}
"""The API's address by region: docs.sendgrid.com, "Data residency for your API calls"."""


class SendGridSettings(HttpAccountSettings):
    """`api_key` needs the scope `mail.send`.

    `region` is where the account's data lives (`global` or `eu`). With `sandbox` SendGrid checks every request and
    sends nothing.
    """

    environment: ClassVar[dict[str, str]] = {"api_key": "SENDGRID_API_KEY"}
    url_fields: ClassVar[dict[str, str]] = {"username": "api_key", "password": "api_key"}

    provider: str = "sendgrid"
    api_key: SecretStr = Field(min_length=1)
    region: Literal["global", "eu"] = "global"
    sandbox: bool = False
