"""Settings of a Twilio account."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from postroom.errors import MissingCredential
from postroom.messages import Line
from postroom.plugin import HttpAccountSettings


def _account_sid(value: str) -> str:
    """Refuse what could leave its place in the URL or in the Basic credentials (RFC 7617: no colon)."""
    if value and not re.fullmatch(r"AC[^\s/?#%:\x00-\x1f\x7f]+", value):
        raise ValueError("must be an Account SID, which begins with AC; the Twilio console shows it")
    return value


def _web_address(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s]+", value):
        raise ValueError("must look like https://example.org/twilio")
    return value


class TwilioSettings(HttpAccountSettings):
    """`account_sid` goes with `auth_token`, or with an API key: `api_key` (its SID) and `api_secret`.

    Given both, the API key is used. The sender is `from`, or a messaging service's pool, or both: a number of
    the pool. `status_callback` is the URL Twilio reports deliveries to. Webhooks are signed with `auth_token`; while
    that changes, `secondary_auth_token` is the other one.
    """

    env_vars: ClassVar[dict[str, str]] = {
        "account_sid": "TWILIO_ACCOUNT_SID",
        "auth_token": "TWILIO_AUTH_TOKEN",
        "api_key": "TWILIO_API_KEY",
        "api_secret": "TWILIO_API_SECRET",
        "messaging_service_sid": "TWILIO_MESSAGING_SERVICE_SID",
    }
    message_options: ClassVar[dict[str, str]] = {"twilio_sid": "account_sid", "twilio_auth_token": "auth_token"}
    url_fields: ClassVar[dict[str, str]] = {"username": "account_sid", "password": "auth_token"}

    provider: str = "twilio"
    account_sid: Annotated[str, AfterValidator(_account_sid)] = ""
    auth_token: SecretStr | None = None
    secondary_auth_token: SecretStr | None = None
    api_key: SecretStr | None = None
    api_secret: SecretStr | None = None
    messaging_service_sid: Line | None = Field(default=None, min_length=1, max_length=64)
    status_callback: Annotated[Line, AfterValidator(_web_address)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [] if self.account_sid else ["account_sid"]
        if self.api_key or self.api_secret:
            missing += [name for name in ("api_key", "api_secret") if not getattr(self, name)]
        elif not self.auth_token:
            missing.append("auth_token")
        if missing:
            raise MissingCredential(
                f"Twilio needs account_sid and auth_token, or account_sid, api_key and api_secret; set "
                f"{' and '.join(missing)} ({', '.join(self.env_vars[name] for name in missing)} where the "
                "account is not configured)"
            )
        return self

    @property
    def credentials(self) -> tuple[str, str]:
        """User name and password of the API's Basic authentication."""
        if self.api_key and self.api_secret:
            return self.api_key.get_secret_value(), self.api_secret.get_secret_value()
        return self.account_sid, self.auth_token.get_secret_value() if self.auth_token else ""
