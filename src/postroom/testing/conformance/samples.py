"""The messages of the kit: one for each feature, and where its values must be found again."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from postroom.messages import Attachment, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

UNICODE = "Grüße 你好 שלום 🚀👩‍👧 café ﬀ ‰ & = + % \"quoted\" 'single' <tag> {brace} \\back"
"""Non-ASCII of every width, both directions, what forms, JSON and HTML escape; one line."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Sample:
    """Fields of a message, and the values that must be on the wire: (field, value)."""

    fields: dict[str, Any]
    marks: list[tuple[str, object]] = field(default_factory=list)


def token(name: str) -> str:
    """A text that occurs nowhere else."""
    return f"kit{next(_numbers)}{name}"


def plain_email(number: int, sender: str) -> Sample:
    to, subject, text = f"kit{number}@example.org", token("subject"), token("text")
    fields = {
        "to": to,
        "from": f"Post Room <{sender}>",
        "subject": subject,
        "text": text,
        "id": new_id(),
        "message_id": f"<{token('id')}@example.org>",
    }
    return Sample(fields, [("to", to), ("from", sender), ("subject", subject), ("text", text)])


def plain_sms(number: int, sender: str) -> Sample:
    """London numbers set aside for drama (Ofcom): 020 7946 0000 to 0999."""
    to, body = f"+442079460{number:03}", token("body")
    fields = {"to": to, "from": sender, "body": body, "id": new_id()}
    return Sample(fields, [("to", to), ("from", sender), ("body", body)])


def soon() -> datetime:
    return (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)


def email_feature(feature: str, *, template: str, options: dict[str, Any]) -> Sample:
    """What uses `feature`, to be added to a plain e-mail."""
    word = token(feature)
    if feature in {"cc", "bcc", "reply_to"}:
        return Sample({feature: f"{word}@example.org"}, [(feature, f"{word}@example.org")])
    if feature in {"attachments", "inline"}:
        return _attachment(feature, word)
    special: dict[str, Sample] = {
        "html": Sample({"html": f"<p>{word}</p>"}, [("html", f"<p>{word}</p>")]),
        "amp": Sample({"html": "<p>Hi</p>", "amp": f"<html>{word}</html>"}, [("amp", f"<html>{word}</html>")]),
        "headers": Sample({"headers": {"X-Kit": word}}, [("headers", "X-Kit"), ("headers", word)]),
        "tags": Sample({"tags": [word]}, [("tags", word)]),
        "metadata": Sample({"metadata": {"kit": word}}, [("metadata", "kit"), ("metadata", word)]),
        "template": Sample({"template": template}, [("template", template)]),
        "merge_data": Sample(
            {"template": template, "merge_data": {"kit0@example.org": {"name": word}}}, [("merge_data", word)]
        ),
        "calendar": Sample({"calendar": _calendar(word)}, [("calendar", f"SUMMARY:{word}")]),
        "international_addresses": Sample({"to": f"jörg{word}@example.org"}, [("to", f"jörg{word}@example.org")]),
    }
    return special[feature] if feature in special else _shared(feature, options)


def sms_feature(feature: str, *, options: dict[str, Any]) -> Sample:
    """What uses `feature`, to be added to a plain SMS."""
    if feature == "media":
        url = f"https://example.org/{token('media')}.png"
        return Sample({"media": [url]}, [("media", url)])
    if feature == "whatsapp":
        return Sample({"channel": "whatsapp"}, [("channel", "whatsapp")])
    return _shared(feature, options)


def _shared(feature: str, options: dict[str, Any]) -> Sample:
    if feature == "send_at":
        return Sample({"send_at": soon()}, [("send_at", soon())])
    if feature == "priority":
        return Sample({"priority": "high"}, [("priority", "high")])
    return Sample({"provider_options": options}, [("provider_options", leaf) for leaf in _leaves(options)])


def _attachment(feature: str, word: str) -> Sample:
    inline = feature == "inline"
    name = f"{word}.png" if inline else f"{word}.txt"
    picture = {"inline": True, "content_id": f"{word}-cid"} if inline else {}
    attachment = Attachment(filename=name, content=f"{word} content".encode(), **picture)
    marks: list[tuple[str, object]] = [("attachments", name), ("attachments", f"{word} content")]
    fields: dict[str, Any] = {"attachments": [attachment]}
    if inline:
        marks.append(("inline", f"{word}-cid"))
        fields["html"] = f'<img src="cid:{word}-cid">'
    return Sample(fields, marks)


def _calendar(word: str) -> str:
    lines = ("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//kit//EN", "METHOD:REQUEST", "BEGIN:VEVENT")
    return "\r\n".join((*lines, "UID:kit", f"SUMMARY:{word}", "END:VEVENT", "END:VCALENDAR", ""))


def _leaves(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in _leaves(value)]
    if isinstance(tree, list):
        return [leaf for value in tree for leaf in _leaves(value)]
    return [tree if isinstance(tree, str) else str(tree).lower()]


def _several_words(feature: str) -> Sample:
    words = [token(feature) for _ in range(2)]
    return Sample({feature: words}, [(feature, word) for word in words])


def _several_named(feature: str) -> Sample:
    words = {f"X-Kit-{number}": token(feature) for number in range(2)}
    return Sample({feature: words}, [(feature, each) for pair in words.items() for each in pair])


def _several_files() -> Sample:
    samples = [_attachment("attachments", token("file")) for _ in range(2)]
    files = [file for sample in samples for file in sample.fields["attachments"]]
    return Sample({"attachments": files}, [mark for sample in samples for mark in sample.marks])


def _several_addresses(feature: str) -> Sample:
    addresses = [f"{token(feature)}@example.org" for _ in range(2)]
    return Sample({feature: addresses}, [(feature, address) for address in addresses])


def _several_media() -> Sample:
    urls = [f"https://example.org/{token('media')}.png" for _ in range(2)]
    return Sample({"media": urls}, [("media", url) for url in urls])


SEVERAL: dict[str, Callable[[], Sample]] = {
    "tags": partial(_several_words, "tags"),
    "headers": partial(_several_named, "headers"),
    "metadata": partial(_several_named, "metadata"),
    "attachments": _several_files,
    "cc": partial(_several_addresses, "cc"),
    "bcc": partial(_several_addresses, "bcc"),
    "media": _several_media,
}
"""Two of what a message may have several of, to be added to a plain one."""
