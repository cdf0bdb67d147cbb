"""Transforms: extensions that change a prepared message or its bytes, and what may not come of that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from postroom.errors import ContractViolation, PluginError, PostroomError
from postroom.frozen import FrozenDict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from postroom.messages import Email, Message
    from postroom.registry.hooks import Hooks, Plugins, TransformContent, TransformMessage

T = TypeVar("T")

_KEPT = ("id", "message_id", "recipients", "idempotency_key", "options")
"""Fields that the core goes by: who has it, what it is called, and whose credentials it brings."""

_LONGEST_LINE = 998
"""Octets of a line without its end (RFC 5322 section 2.1.1)."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_NEVER_SHOWN = re.compile(rb"(?im)^(?:resent-)?bcc[ \t]*:")


@dataclass(frozen=True, slots=True)
class Transforms:
    """What extensions change: `postroom_transform_message`, `postroom_transform_content`, in the configured order.

    Both raise what an extension raises that is a PostroomError, PluginError for what else it raises or must not do, and
    MessageError for what is no valid message any more; nothing was sent then.
    """

    messages: Sequence[tuple[str, TransformMessage]] = ()
    contents: Sequence[tuple[str, TransformContent]] = ()

    def message(self, message: Message, account: str) -> Message:
        """Return what they make of a prepared message, checked anew."""
        for name, function in self.messages:
            changed = _called(name, partial(function, message=message, account=account))
            if changed is not None and changed is not message:
                message = _checked_message(name, message, changed)
        return message

    def content(self, content: bytes, email: Email, account: str) -> bytes:
        """Return what they make of the bytes of `email`, which are held to RFC 5322 and show no blind copy."""
        for name, function in self.contents:
            changed = _called(name, partial(function, content=content, message=email, account=account))
            if changed is not None and changed is not content:
                content = _checked_content(name, changed)
        return content


def transforms_of(hooks: Hooks, extensions: Plugins) -> Transforms:
    """Return what `extensions` change."""
    return Transforms(hooks.transform_message(extensions), hooks.transform_content(extensions))


def _called(name: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except PostroomError:
        raise
    except Exception as error:
        raise PluginError(
            f"extension {name!r} failed before the send ({type(error).__name__}); nothing was sent. Fix it, or take "
            "it out of [plugins] extensions"
        ) from error


def _checked_message(name: str, before: Message, after: Any) -> Message:
    """Validate a message as if a caller had built it; what the core goes by stays."""
    if type(after) is not type(before):
        raise _violation(name, f"made {type(after).__name__} of {type(before).__name__}")
    for field in _KEPT:
        if getattr(after, field, None) != getattr(before, field, None):
            raise _violation(name, f"changed {field}")
    given = after.__pydantic_fields_set__ & type(after).model_fields.keys()
    checked = type(before).model_validate({field: getattr(after, field) for field in given})
    kept = {field: before.__dict__[field] for field in ("recipients", "date") if field in before.__dict__}
    return checked.stamped(options=FrozenDict(before.options), **kept)


def _checked_content(name: str, content: Any) -> bytes:
    if not isinstance(content, bytes):
        raise _violation(name, f"made {type(content).__name__} of bytes")
    head, separator, _ = content.partition(b"\r\n\r\n")
    if not separator or _NEVER_SHOWN.search(head):
        raise _violation(name, "left no headers, or one that shows who got a blind copy")
    ends = _LINE_END.findall(content)
    if b"\0" in content or any(end != b"\r\n" for end in ends) or not content.endswith(b"\r\n"):
        raise _violation(name, "left a line that does not end in CRLF, or a NUL")
    if max(map(len, content.split(b"\r\n"))) > _LONGEST_LINE:
        raise _violation(name, f"made a line of more than {_LONGEST_LINE} octets")
    return content


def _violation(name: str, what: str) -> ContractViolation:
    return ContractViolation(
        f"extension {name!r} {what}, which a transform must not do; nothing was sent. Fix it, or take it out of "
        "[plugins] extensions"
    )
