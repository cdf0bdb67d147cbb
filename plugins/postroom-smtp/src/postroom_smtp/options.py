"""SMTP's `provider_options`: delivery status notifications (RFC 3461)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from postroom.errors import InvalidOption
from postroom.plugin import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue


class Dsn(BaseModel):
    """`{"dsn": {"notify": ["failure", "delay"], "ret": "hdrs", "envid": "order-7"}}`, each part optional.

    `notify`: when the recipient's server reports; `never` stands alone. `ret`: whether a failure report
    returns the whole message or its headers. `envid`: printable ASCII that reports quote.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    notify: tuple[Literal["never", "success", "failure", "delay"], ...] = ()
    ret: Literal["full", "hdrs"] | None = None
    envid: str | None = None

    @field_validator("notify")
    @classmethod
    def _never_alone(cls, notify: tuple[str, ...]) -> tuple[str, ...]:
        if "never" in notify and len(notify) > 1:
            raise ValueError('"never" cannot stand beside others')
        return notify

    @field_validator("envid")
    @classmethod
    def _printable(cls, envid: str | None) -> str | None:
        if envid is not None and not (envid.isascii() and envid.isprintable() and 0 < len(envid) <= 100):
            raise ValueError("must be 1 to 100 printable ASCII characters")
        return envid

    def mail_parameters(self) -> bytes:
        """RET and ENVID, for MAIL."""
        ret = f" RET={self.ret.upper()}" if self.ret else ""
        envid = b" ENVID=" + xtext(self.envid.encode()) if self.envid else b""
        return ret.encode() + envid

    def rcpt_parameters(self, address: bytes) -> bytes:
        """NOTIFY and ORCPT, for RCPT; ORCPT only where the address is ASCII."""
        if not self.notify:
            return b""
        notify = b" NOTIFY=" + ",".join(self.notify).upper().encode()
        return notify + (b" ORCPT=rfc822;" + xtext(address) if address.isascii() else b"")


def read_dsn(account: str, options: Mapping[str, JsonValue]) -> Dsn | None:
    """Return the notifications that `provider_options` ask for. Raises InvalidOption for anything else."""
    for name in options:
        if name != "dsn":
            hint = did_you_mean(name, ["dsn"]) or "; SMTP knows 'dsn'"
            raise InvalidOption(f"{account}: SMTP has no such option{hint}", path=f"provider_options.{name}")
    if options.get("dsn") is None:
        return None
    try:
        return Dsn.model_validate(options["dsn"])
    except ValidationError as error:
        raise _in_our_words(account, error) from None


def _in_our_words(account: str, error: ValidationError) -> InvalidOption:
    problem = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in ("provider_options", "dsn", *problem["loc"]))
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        hint = did_you_mean(str(problem["loc"][-1]), Dsn.model_fields)
        text = f"no such option{hint or '; there are ' + ', '.join(Dsn.model_fields)}"
    return InvalidOption(f"{account}: {text}", path=path)


def xtext(text: bytes) -> bytes:
    """RFC 3461 section 4: everything but printable ASCII without `+` and `=` as `+` and two hex digits."""
    return b"".join(b"%c" % c if 33 <= c <= 126 and c not in b"+=" else b"+%02X" % c for c in text)
