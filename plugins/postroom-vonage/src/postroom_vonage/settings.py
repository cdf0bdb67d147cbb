"""Settings of a Vonage account."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from postroom.errors import MissingCredential
from postroom.messages import Line
from postroom.plugin import HttpAccountSettings, brought_by_message
from postroom_vonage.private_keys import check_key_text

SignatureMethod = Literal["md5hash", "md5", "sha1", "sha256", "sha512"]

_WAYS = {
    "messages": (("application_id", "private_key"), ("api_key", "api_secret")),
    "sms": (("api_key", "signature_secret"), ("api_key", "api_secret")),
}
"""The credentials each API takes, those it prefers first."""


class VonageSettings(HttpAccountSettings):
    """One of Vonage's two APIs for texts, and the credentials it takes.

    `api = "messages"` takes `application_id` and `private_key` (PEM text, or in the configuration the path of a PEM
    file; a message brings the text), else `api_key` and `api_secret`. `api = "sms"` takes `api_key` and
    `signature_secret`, else `api_key` and `api_secret`; `signature_method` must be the one chosen in Vonage's
    dashboard: `md5hash` (there "MD5 hash", the default) or an HMAC with the digest named.

    With `signature_secret` an account of either API takes webhooks, signed at most `webhook_max_age` seconds ago.
    """

    env_vars: ClassVar[dict[str, str]] = {
        "api_key": "VONAGE_API_KEY",
        "api_secret": "VONAGE_API_SECRET",
        "signature_secret": "VONAGE_SIGNATURE_SECRET",
        "application_id": "VONAGE_APPLICATION_ID",
        "private_key": "VONAGE_PRIVATE_KEY",
    }
    url_fields: ClassVar[dict[str, str]] = {"username": "api_key", "password": "api_secret"}

    provider: str = "vonage"
    api: Literal["messages", "sms"] = "messages"
    api_key: Line | None = None
    api_secret: SecretStr | None = None
    signature_secret: SecretStr | None = None
    signature_method: SignatureMethod = "md5hash"
    application_id: Line | None = None
    private_key: SecretStr | None = None
    webhook_max_age: float = Field(default=300.0, gt=0, allow_inf_nan=False)

    @field_validator("private_key")
    @classmethod
    def _text_from_messages(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """A path in a message would have the server read, and sign with, a file that its sender cannot read."""
        if key is not None and brought_by_message(info):
            check_key_text(key.get_secret_value())
        return key

    @model_validator(mode="after")
    def _can_authenticate(self) -> Self:
        ways = _WAYS[self.api]
        if any(all(getattr(self, field) for field in way) for way in ways):
            return self
        begun = max(ways, key=lambda way: sum(bool(getattr(self, field)) for field in way))
        missing = [field for field in begun if not getattr(self, field)]
        raise MissingCredential(
            f'api = "{self.api}" needs {", or ".join(" and ".join(way) for way in ways)}; set {" and ".join(missing)} '
            f"({', '.join(self.env_vars[field] for field in missing)} where the account is not configured)"
        )

    @property
    def basic_credentials(self) -> tuple[str, str] | None:
        """User name and password for Basic authentication, if the account has them."""
        if not (self.api_key and self.api_secret):
            return None
        return self.api_key, self.api_secret.get_secret_value()
