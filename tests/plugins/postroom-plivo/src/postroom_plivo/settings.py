"""The settings of a Plivo account."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from postroom.plugin import HttpAccountSettings
from pydantic import AfterValidator, SecretStr


def _printable(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("must be printable ASCII without spaces or line ends")
    return value


def _auth_id(value: str) -> str:
    if not re.fullmatch(r"[MS]A[A-Z0-9]{18}", value):
        raise ValueError("must be 20 capitals and digits that begin with MA, or SA for a subaccount")
    return value


class PlivoSettings(HttpAccountSettings):
    """`auth_id` and `auth_token` stand on the overview page of Plivo's console; reports are signed with the token.

    `status_url` is where Plivo reports what became of a message. The variables are those of Plivo's own SDK, and so is
    the form of an id (plivo-python, `fetch_credentials`, `is_valid_mainaccount`).
    """

    env_vars: ClassVar[dict[str, str]] = {"auth_id": "PLIVO_AUTH_ID", "auth_token": "PLIVO_AUTH_TOKEN"}
    url_fields: ClassVar[dict[str, str]] = {"username": "auth_id", "password": "auth_token"}

    provider: str = "plivo"
    auth_id: Annotated[str, AfterValidator(_auth_id)]
    auth_token: Annotated[SecretStr, AfterValidator(_printable)]
    status_url: str | None = None
