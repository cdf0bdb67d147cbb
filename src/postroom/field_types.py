"""Field types: what the fields of messages may hold."""

from __future__ import annotations

import json
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, JsonValue

from postroom.addresses import Address, phone_number, refuse_breaks
from postroom.frozen import frozen

_T = TypeVar("_T")


def as_list(value: object) -> object:
    """Return one address, or one text, as a list of it."""
    return [value] if isinstance(value, (str, Address, dict)) else value


def refuse_unwritable(value: _T) -> _T:
    """Refuse what JSON in UTF-8 cannot carry: NaN, infinities and halves of characters."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain half a character (a lone surrogate)") from None
    except ValueError:
        raise ValueError("must not contain NaN or infinity, which JSON cannot write") from None
    return value


def _refuse_halves(text: str) -> str:
    return text if text.isascii() else refuse_unwritable(text)


Line = Annotated[str, AfterValidator(refuse_breaks)]
"""Text of one line: no CR, LF or NUL."""

Text = Annotated[str, AfterValidator(_refuse_halves)]
"""Text of any number of lines."""

Json = Annotated[dict[str, JsonValue], AfterValidator(refuse_unwritable), AfterValidator(frozen)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(as_list)]
PhoneNumbers = Annotated[tuple[Annotated[str, AfterValidator(phone_number)], ...], BeforeValidator(as_list)]
