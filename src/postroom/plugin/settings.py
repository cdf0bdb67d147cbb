"""Settings of every account, whatever its provider."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
)

from postroom.addresses import refuse_breaks
from postroom.notation import read_rate

FROM_MESSAGE = "postroom: from a message"
"""Key of the validation context under which settings are known to be made of what a message brought."""

OnUnknown = Literal["hold", "retry", "assume_sent"]
Unsupported = Literal["error", "warn"]


def _rate(value: str) -> str:
    found = read_rate(value)
    if not found or found[0] <= 0:
        raise ValueError("write a rate like 50/s, 100/m or 20/30s")
    return value


def _base_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError("must look like https://api.example.org")
    return value.rstrip("/")


BaseUrl = Annotated[str, BeforeValidator(_base_url)]
"""An http(s) address without query, credentials or closing slash."""


class AccountSettings(BaseModel):
    """Settings every account has; a provider's own settings model derives from this.

    `timeout` bounds one hand-over in seconds; `concurrency` the hand-overs under way at once; `rate` how many
    messages start in a time (`"50/s"`, `"100/m"`). `on_unknown` says what happens to a message that was
    handed over without an answer; `unsupported = "warn"` sends a message without what the provider cannot
    express instead of refusing it.

    A provider lists in `env_vars` the environment variables it is usually configured by (field ->
    variable), and in `message_options` further names under which `message.options` may carry a field.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_default=True,
        serialize_by_alias=True,
        defer_build=True,
    )
    env_vars: ClassVar[dict[str, str]] = {}
    message_options: ClassVar[dict[str, str]] = {}
    url_fields: ClassVar[dict[str, str]] = {}
    """Which field each part of an account URL fills: `username`, `password`, `host`, `port`, `path`."""

    provider: str
    from_: Annotated[str, AfterValidator(refuse_breaks)] | None = Field(
        default=None, validation_alias=AliasChoices("from", "from_"), serialization_alias="from"
    )
    timeout: float = Field(default=30.0, gt=0, le=3600, allow_inf_nan=False)
    concurrency: int = Field(default=50, ge=1, le=10_000)
    rate: Annotated[str, AfterValidator(_rate)] | None = None
    on_unknown: OnUnknown = "hold"
    unsupported: Unsupported = "error"

    def secret_texts(self) -> list[str]:
        """Every secret in these settings, for taking them out of texts."""
        values = (value for _, value in self)
        return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]

    @property
    def rate_per_second(self) -> float | None:
        found = read_rate(self.rate or "")
        return found[0] / found[1] if found else None


def brought_by_message(info: ValidationInfo) -> bool:
    """Whether the settings being validated are made of credentials that a message brought (`Message.options`).

    Whoever may send wrote those, so a validator takes them for nothing but what they are: never for the name of a
    file, a host or a command, which only the configuration may give.
    """
    return bool(info.context and info.context.get(FROM_MESSAGE))


class HttpAccountSettings(AccountSettings):
    """Settings of an account reached over HTTP; `base_url` replaces the provider's own address."""

    base_url: BaseUrl | None = None
