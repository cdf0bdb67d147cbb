"""E-mail addresses and phone numbers: checked once, by libraries that know their grammar."""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic import ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from postroom.validation import CheckedModel, message_error

LONGEST_ADDRESS = 254
"""Octets in an address: RFC 5321 section 4.5.3.1.3 allows 256 with the angle brackets."""

LONGEST_MAILBOX = 998
"""Characters in a display name and address together; a longer one cannot stand on one header line."""

_BREAKS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
"""What some parser takes for the end of a line, other control characters but tab, and halves of characters."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_MAILBOX = re.compile(rf"(?P<name>{_QUOTED}|[^<>]*)\s*<(?P<email>{_QUOTED}@[^<>]*|[^<>]*)>")
_ATOMS = re.compile(r"[\w!#$%&'*+\-/=?^`{|}~]+(?: [\w!#$%&'*+\-/=?^`{|}~]+)*")
_PRIVATE_DOMAIN = re.compile(r"(?<=[@.])(local|localhost|test)$", re.IGNORECASE)
_PLACEHOLDER = ".example"
_MOST_DIGITS = 15


class Address(CheckedModel):
    """An e-mail address with an optional display name.

    Built from `Address("ann@example.org", "Ann")`, or in a message from text such as `"Ann <ann@example.org>"`.
    The domain is kept lower-case in Unicode; `ascii_email` is the form for providers that know no international
    addresses. Raises InvalidAddress.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    email: str
    name: str = ""

    def __init__(self, email: str, name: str = "") -> None:
        try:
            super().__init__(email=email, name=name)
        except ValidationError as error:
            raise message_error(type(self), error) from None

    # Inside other models pydantic then fills the fields itself, and reports what is wrong with its place.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # pydantic's own mark for such a constructor

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str):
            return _parsed_mailbox(value)
        if isinstance(value, dict) and isinstance(value.get("email"), str):
            name = value.get("name") or ""
            if isinstance(name, str) and _BREAKS.search(name):
                raise _invalid("a display name may not contain line breaks or control characters")
            if isinstance(name, str):
                name = _tidy_name(name)
            return {**value, "email": email_address(value["email"]), "name": name}
        if not isinstance(value, (dict, Address)):
            raise _invalid(f"an address is text such as 'Ann <ann@example.org>', not {type(value).__name__}")
        return value

    @property
    def domain(self) -> str:
        return self.email.rpartition("@")[2]

    @property
    def ascii_email(self) -> str | None:
        """The address with its domain in IDNA form, or None when its local part is not ASCII."""
        return _ascii_form(self.email)

    def __str__(self) -> str:
        if not self.name:
            return self.email
        return f"{quoted_name(self.name)} <{self.email}>"


def quoted_name(name: str) -> str:
    """Return a display name as it stands before an address: in quotes unless it is plain words."""
    if _ATOMS.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def email_address(text: str) -> str:
    """Return `text`, a bare address, in the form `Address.email` has. Raises ValueError with the reason."""
    found = _parsed_mailbox(text)
    if found["name"]:
        raise _invalid(f"{text!r} must be the bare address; the name goes into `name`")
    return found["email"]


@lru_cache(maxsize=4096)
def phone_number(text: str) -> str:
    """Return `text` in E.164 form (`+` and up to 15 digits).

    Numbers must be international. Whether a number is in service is for the provider to say.
    Raises ValueError with the reason.
    """
    if len(text) > 64:
        raise _invalid(f"a phone number has at most {_MOST_DIGITS} digits")
    if not text.strip().startswith("+"):
        raise _invalid(f"{text!r} is not in international form; write it like +442079460958")
    written = not re.search(r"[^\d\s().\-/+]", text) and text.count("+") == 1 and not _BREAKS.search(text)
    found = _e164(text) if written else None
    # Zeros in front, which the library takes off as a trunk prefix, must not be fewer each time they are read.
    if found is None or len(found) > _MOST_DIGITS + 1 or (found != text and _e164(found) != found):
        raise _invalid(f"{text!r} is not a phone number; write it like +442079460958")
    return found


def _e164(text: str) -> str | None:
    import phonenumbers  # noqa: PLC0415 - costly to import

    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def refuse_breaks(text: str) -> str:
    """Refuse CR, LF, NUL and their like, which could add headers or commands of their own."""
    if _BREAKS.search(text):
        raise ValueError("must not contain line breaks or control characters")
    return text


def _invalid(message: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_address", "{reason}", {"reason": message})


@lru_cache(maxsize=4096)
def _parsed_mailbox(text: str) -> dict[str, str]:
    if len(text) > LONGEST_MAILBOX:
        raise _invalid(f"an address has at most {LONGEST_ADDRESS} characters")
    if _BREAKS.search(text):
        raise _invalid("an address may not contain line breaks or control characters")
    from email_validator import EmailNotValidError  # noqa: PLC0415 - costly to import

    named = _MAILBOX.fullmatch(text.strip())
    name, bare = (named["name"].strip(), named["email"].strip()) if named else ("", text.strip())
    try:
        email, _ = _validated(bare)
    except EmailNotValidError as error:
        if text.count("@") > 1 and re.search("[,;]", text):
            raise _invalid(f"{text!r} holds several addresses; give them as a list") from None
        raise _invalid(f"{text!r} is not an e-mail address: {error}") from None
    return {"email": email, "name": _tidy_name(_unquoted(name))}


def _unquoted(name: str) -> str:
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if re.fullmatch(_QUOTED, name) else name


def _tidy_name(name: str) -> str:
    """One space between words: what a receiver reads from a folded header anyway."""
    if len(name) > LONGEST_MAILBOX:
        raise _invalid(f"a display name has at most {LONGEST_MAILBOX} characters")
    return " ".join(name.split())


@lru_cache(maxsize=4096)
def _ascii_form(address: str) -> str | None:
    return _validated(address)[1]


def _validated(text: str) -> tuple[str, str | None]:
    """Return the normalised address and its ASCII form.

    Servers on private networks do carry mail for names the library reserves (RFC 6761, RFC 6762): those are
    checked below a placeholder domain, which is taken off again.
    """
    from email_validator import validate_email  # noqa: PLC0415 - costly to import

    placed = _PRIVATE_DOMAIN.sub(rf"\1{_PLACEHOLDER}", text)
    found = validate_email(
        placed,
        check_deliverability=False,
        allow_quoted_local=True,
        allow_domain_literal=True,
        globally_deliverable=False,
    )
    email, ascii_email = found.normalized, found.ascii_email
    if placed != text:
        email = email.removesuffix(_PLACEHOLDER)
        ascii_email = ascii_email and ascii_email.removesuffix(_PLACEHOLDER)
    return email, ascii_email
