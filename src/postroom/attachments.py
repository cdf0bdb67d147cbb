"""Attachments: files that go with an e-mail."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from postroom.errors import MessageError
from postroom.field_types import Line
from postroom.validation import validated

if TYPE_CHECKING:
    from pydantic import ModelWrapValidatorHandler

LARGEST_EMAIL = 40_000_000
"""Bytes of text and attachments in one e-mail, before encoding. The providers we know take less."""

_MEDIA_TYPE = re.compile(
    r"[\w!#$&^.+\-]+/[\w!#$&^.+\-]+"
    r"(\s*;\s*[\w!#$%&'*+\-.^`{|}~]+=([\w!#$%&'*+\-.^`{|}~/:=]+|\"([ !#-\[\]-~]|\\[ -~])*\"))*",
    re.ASCII,
)
"""A type and its parameters, as RFC 2045 section 5.1 writes them; unquoted values may hold `/`, `:` and `=`."""


class Attachment(BaseModel):
    """A file that goes with an e-mail.

    `inline` shows it inside the HTML body, where `<img src="cid:CONTENT_ID">` refers to it; `content_id`
    defaults to the file name then. `content_type` is guessed from the file name.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64", hide_input_in_errors=True
    )

    filename: Line = Field(min_length=1, max_length=255)
    content: bytes = Field(repr=False)
    content_type: Line = ""
    inline: bool = False
    content_id: Line | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, value: object) -> object:
        if not isinstance(value, dict) or not isinstance(value.get("filename"), str):
            return value
        given: dict[str, Any] = dict(value)
        if not given.get("content_type"):
            given["content_type"] = mimetypes.guess_type(given["filename"])[0] or "application/octet-stream"
        if given.get("inline") and not given.get("content_id"):
            given["content_id"] = re.sub(r"[^\w.\-]", "_", given["filename"], flags=re.ASCII)
        return given

    @field_validator("filename")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        """Keep the last part of a path, without control and direction-changing characters."""
        last = re.split(r"[/\\]", name)[-1]
        safe = re.sub(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", last).strip()
        if safe in {"", ".", ".."}:
            raise ValueError("names no file")
        return safe

    @field_validator("content_type")
    @classmethod
    def _media_type(cls, value: str) -> str:
        value = value.strip().rstrip("; ")
        if len(value) > 255 or not _MEDIA_TYPE.fullmatch(value):
            raise ValueError(f"{value[:255]!r} is not a media type such as application/pdf")
        if value.lower().startswith("multipart/"):
            raise ValueError(f"{value!r} is for what holds parts; a file is application/octet-stream, say")
        return value

    @field_validator("content_id")
    @classmethod
    def _bare_content_id(cls, value: str | None) -> str | None:
        bare = value.strip().removeprefix("<").removesuffix(">") if value else value
        if bare is not None and (not re.fullmatch(r"[!-;=?-~]{1,255}", bare) or "=?" in bare):
            raise ValueError("must be printable ASCII without spaces, angle brackets or encoded words")
        return bare

    @model_validator(mode="wrap")
    @classmethod
    def _in_our_words(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return validated(cls, value, handler)

    @classmethod
    def from_path(cls, path: str | Path, *, inline: bool = False) -> Self:
        """Read the file at `path`. Raises MessageError with the path when it cannot be read or is too large."""
        path = Path(path)
        try:
            if path.exists() and not path.is_file():
                raise MessageError(f"cannot read attachment {path}: not a file")
            if path.stat().st_size > LARGEST_EMAIL:
                raise MessageError(f"{path} is larger than {LARGEST_EMAIL:,} bytes; send a link to it instead")
            return cls(filename=path.name, content=path.read_bytes(), inline=inline)
        except OSError as error:
            raise MessageError(f"cannot read attachment {path}: {error.strerror}") from error
        except ValueError as error:
            raise MessageError(f"cannot read attachment {str(path)!r}: {error}") from error
