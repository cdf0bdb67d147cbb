"""Provider `file`: writes each message into a folder, an e-mail as `.eml`, an SMS as `.json`."""

from __future__ import annotations

import asyncio
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from postroom.errors import ProviderUnavailable
from postroom.mime import needs_smtputf8
from postroom.plugin import (
    SMS_FEATURES,
    AccountSettings,
    Capabilities,
    CheckReport,
    EmailTransport,
    SmsTransport,
    hookimpl,
)
from postroom.receipts import Accepted

if TYPE_CHECKING:
    from postroom.messages import Email, Sms

postroom_interface = 1

MIME_FEATURES = frozenset(
    {"cc", "bcc", "reply_to", "html", "attachments", "inline", "headers", "calendar", "amp", "priority"}
) | {"international_addresses"}


class FileSettings(AccountSettings):
    """`path` is the folder; it is made when it is not there."""

    url_fields: ClassVar[dict[str, str]] = {"path": "path"}

    provider: str = "file"
    path: Path


class FileEmail(EmailTransport[FileSettings]):
    """Writes `<id>.eml`: the bytes SMTP would carry, headed by the envelope as X-Envelope-From and -To."""

    settings_model = FileSettings
    capabilities = Capabilities(features=MIME_FEATURES, partial_envelope=True)
    keeps_timeout = True

    async def send(self, email: Email, /) -> Accepted:
        return await _write(self, f"{email.id}.eml", await self.encoded(partial(self._content, email), email))

    async def check(self) -> CheckReport:
        return _check(self.settings.path)

    def _content(self, email: Email) -> bytes:
        sender = email.from_.email if email.from_ else ""
        envelope = [f"X-Envelope-From: {sender}", *(f"X-Envelope-To: {to}" for to in email.recipients)]
        head = "".join(f"{line}\r\n" for line in envelope).encode()
        return head + self.write(email, smtputf8=needs_smtputf8(email))


class FileSms(SmsTransport[FileSettings]):
    """Writes `<id>-<number>.json` for each recipient; credentials stay out."""

    settings_model = FileSettings
    capabilities = Capabilities(features=SMS_FEATURES, max_recipients=1)
    keeps_timeout = True

    async def send(self, sms: Sms, /) -> Accepted:
        return await _write(
            self, f"{sms.id}-{sms.to[0].lstrip('+')}.json", sms.model_dump_json(exclude={"options"}, indent=2).encode()
        )

    async def check(self) -> CheckReport:
        return _check(self.settings.path)


@hookimpl
def postroom_email_transport() -> type[FileEmail]:
    """Return the e-mail half."""
    return FileEmail


@hookimpl
def postroom_sms_transport() -> type[FileSms]:
    """Return the SMS half."""
    return FileSms


async def _write(transport: FileEmail | FileSms, name: str, content: bytes) -> Accepted:
    target = transport.settings.path / name
    try:
        await asyncio.to_thread(_write_whole, target, content)
    except OSError as error:
        raise ProviderUnavailable(
            f"{transport.account}: cannot write {target} ({error.strerror}); make room or fix the folder, then send "
            "again",
            detail=error.strerror,
        ) from error
    return Accepted(provider_message_id=name)


def _write_whole(target: Path, content: bytes) -> None:
    """A reader of the folder sees the whole file or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _check(folder: Path) -> CheckReport:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    ok = existing.is_dir() and os.access(existing, os.W_OK)
    return CheckReport(ok=ok, summary=f"{folder} {'can' if ok else 'cannot'} be written")
