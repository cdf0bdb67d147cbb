"""What a Vonage account can be told."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import SecretStr, model_validator

from postroom.errors import MissingCredential
from postroom.plugin import HttpAccountSettings

SignatureMethod = Literal["md5hash", "md5", "sha1", "sha256", "sha512"]


class VonageSettings(HttpAccountSettings):
    """One of Vonage's two APIs, and the credentials it takes.

    `api = "messages"` wants `application_id` and `private_key` (PEM text, or the path of a PEM file), or `api_key`
    and `api_secret`. `api = "sms"` wants `api_key` with `api_secret`, or with `signature_secret`; `signature_method`
    must be the one chosen in Vonage's dashboard (`md5hash`, or an HMAC with the named digest).
    """

    environment: ClassVar[dict[str, str]] = {
        "api_key": "VONAGE_API_KEY",
        "api_secret": "VONAGE_API_SECRET",
        "signature_secret": "VONAGE_SIGNATURE_SECRET",
        "application_id": "VONAGE_APPLICATION_ID",
        "private_key": "VONAGE_PRIVATE_KEY",
    }
    url_fields: ClassVar[dict[str, str]] = {"username": "api_key", "password": "api_secret"}

    provider: str = "vonage"
    api: Literal["messages", "sms"] = "messages"
    api_key: str | None = None
    api_secret: SecretStr | None = None
    signature_secret: SecretStr | None = None
    signature_method: SignatureMethod = "md5hash"
    application_id: str | None = None
    private_key: SecretStr | None = None

    @model_validator(mode="after")
    def _can_authenticate(self) -> Self:
        if bool(self.application_id) != bool(self.private_key):
            raise MissingCredential("application_id and private_key go together; set both or neither")
        basic = bool(self.api_key and self.api_secret)
        if self.api == "messages" and not (basic or self.private_key):
            raise MissingCredential('api = "messages" needs application_id and private_key, or api_key and api_secret')
        if self.api == "sms" and not (basic or (self.api_key and self.signature_secret)):
            raise MissingCredential('api = "sms" needs api_key with api_secret, or api_key with signature_secret')
        return self
