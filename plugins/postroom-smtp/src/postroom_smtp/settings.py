"""Settings of an SMTP account."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable
from functools import cached_property, lru_cache
from ipaddress import ip_address
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from postroom.addresses import Address, refuse_breaks
from postroom.errors import InvalidAddress
from postroom.plugin import AccountSettings, OnUnknown, brought_by_message
from postroom_smtp.return_paths import LONGEST_NAME, ReturnPaths

Tls = Literal["starttls", "implicit", "none", "opportunistic"]
TokenSource = Callable[[], Awaitable[str]]

PORTS: dict[str, int] = {"starttls": 587, "opportunistic": 587, "implicit": 465, "none": 25}
"""RFC 6409 section 3.1 (submission), RFC 8314 section 7.3 (submissions), RFC 5321 section 4.5.4.2 (SMTP)."""

_HOST = re.compile(r"[A-Za-z0-9_.:\-\u0080-\uffff]{1,253}")
_LITERAL = re.compile(r"\[([0-9A-Fa-f:.]+)\]")
_EHLO_NAME = re.compile(r"[A-Za-z0-9\-.]{1,253}|\[[A-Za-z0-9.:\-]{1,60}\]")


def _host(value: str) -> str:
    if literal := _LITERAL.fullmatch(value):  # an IPv6 address, as URLs write it (RFC 3986 section 3.2.2)
        value = literal[1]
    if not _HOST.fullmatch(value):
        raise ValueError("must be a host name or an IP address, without port or scheme")
    return value


def _ehlo_name(value: str) -> str:
    if not _EHLO_NAME.fullmatch(value):
        raise ValueError("must be a host name, or an address such as [192.0.2.1]")
    return value


def _return_path(value: str) -> str:
    try:
        address = Address(value)
    except InvalidAddress as error:
        raise ValueError(str(error)) from None
    if not address.email.isascii() or len(address.email.rpartition("@")[0]) > LONGEST_NAME:
        raise ValueError(f"must be an ASCII address with at most {LONGEST_NAME} characters before the @")
    return address.email


class SmtpSettings(AccountSettings):
    """An account at an SMTP server.

    `tls`: `starttls` upgrades the connection and refuses to go on without; `implicit` speaks TLS from the
    first byte; `opportunistic` upgrades when the server offers it; `none` never does. `port` 0 stands for
    the usual one of `tls`: 587, 465, 587, 25. Certificates are always verified; SSL_CERT_FILE names a private
    authority. `username` goes with `password`, or with `oauth_token` (XOAUTH2): a fixed token, or, in code, an
    async callable that returns a fresh one, called once for each connection. Credentials never travel
    unencrypted except to a loopback address. `local_hostname` is the name given in EHLO. `pool` is the most
    connections open at once; further messages wait for one. `timeout` (seconds) bounds getting a
    connection ready, and then each wait in which nothing moves: for a reply, or for more of the content to leave.
    `final_timeout` (seconds) is for the reply to the final dot, before which nobody knows whether the message was
    taken; 600, which RFC 5321 section 4.5.3.2.6 gives it, and no single reply may take longer in all. The RFC's other
    minima (2 to 5 minutes) are longer than the 60 of `timeout`: a message given up there was surely not sent, and may
    go elsewhere at once. `bounce_secret` is what a mail server presents with the bounces that it passes on; without it
    none are taken. With `return_path`, an address such as `bounces@example.org`, and `return_path_secret` each message
    has an envelope sender of its own below that address, signed, and a bounce counts only when it came to one of those.
    """

    env_vars: ClassVar[dict[str, str]] = {
        "host": "SMTP_HOST",
        "username": "SMTP_USERNAME",
        "password": "SMTP_PASSWORD",
    }
    url_fields: ClassVar[dict[str, str]] = {
        "host": "host",
        "port": "port",
        "username": "username",
        "password": "password",
    }

    provider: str = "smtp"
    host: Annotated[str, AfterValidator(_host)]
    tls: Tls = "starttls"
    port: int = Field(default=0, ge=0, le=65_535)
    username: Annotated[str, AfterValidator(refuse_breaks)] | None = None
    oauth_token: SecretStr | SkipJsonSchema[TokenSource] | None = None
    password: SecretStr | None = None
    local_hostname: Annotated[str, AfterValidator(_ehlo_name)] | None = None
    pool: int = Field(default=5, ge=1, le=1000)
    timeout: float = Field(default=60.0, gt=0, le=3600)
    final_timeout: float = Field(default=600.0, gt=0, le=86_400)
    concurrency: int = Field(default=1000, ge=1, le=10_000)
    on_unknown: OnUnknown = "retry"
    bounce_secret: SecretStr | None = Field(default=None, min_length=16)
    return_path: Annotated[str, AfterValidator(_return_path)] | None = None
    return_path_secret: SecretStr | None = Field(default=None, min_length=32)

    @field_validator("port")
    @classmethod
    def _usual_port(cls, port: int, info: ValidationInfo) -> int:
        return port or PORTS[info.data.get("tls", "starttls")]

    @field_validator("oauth_token")
    @classmethod
    def _token_of_someone(
        cls, token: SecretStr | TokenSource | None, info: ValidationInfo
    ) -> SecretStr | TokenSource | None:
        if token is not None and info.data.get("username") is None:
            raise ValueError("needs a username beside it")
        return token

    @field_validator("password")
    @classmethod
    def _fits_username(cls, password: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if "username" not in info.data or "oauth_token" not in info.data:
            return password
        username, token = info.data["username"], info.data["oauth_token"]
        if password is not None and token is not None:
            raise ValueError("cannot stand beside oauth_token; keep one of the two")
        if username is None and password is not None:
            raise ValueError("needs a username beside it")
        if username is not None and password is None and token is None:
            raise ValueError("is missing, though there is a username; set it, or oauth_token")
        if username is not None and info.data.get("tls") == "none" and not is_loopback(info.data.get("host", "")):
            raise ValueError('would travel unencrypted with tls = "none"; choose starttls or implicit')
        return password

    @model_validator(mode="after")
    def _return_path_is_signed(self, info: ValidationInfo) -> Self:
        lacks_one = (self.return_path is None) != (self.return_path_secret is None)
        if lacks_one and not brought_by_message(info):  # which has credentials of its own, and none of the account's
            raise ValueError("return_path and return_path_secret go together; set both or none")
        return self

    @cached_property
    def return_paths(self) -> ReturnPaths | None:
        """The signed envelope senders of this account's messages, where it has them."""
        if self.return_path is None or self.return_path_secret is None:
            return None
        return ReturnPaths(self.return_path, self.return_path_secret.get_secret_value())

    @property
    def ehlo_name(self) -> str:
        """The name for EHLO: `local_hostname`, else this host's own when it is a full one."""
        return self.local_hostname or _own_name()


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1)
def _own_name() -> str:
    """RFC 5321 section 4.1.4: a host without a full name gives an address literal.

    Never `socket.getfqdn`, which may wait for DNS.
    """
    name = socket.gethostname()
    return name if "." in name and _EHLO_NAME.fullmatch(name) else "[127.0.0.1]"
