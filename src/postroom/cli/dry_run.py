"""`--dry-run`: what would be sent, through which accounts, and what they would refuse. Opens no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postroom.cli.output import show_json, show_text
from postroom.messages import Email, Sms
from postroom.mime import needs_smtputf8, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from postroom.client import Postroom
    from postroom.delivery.preview import AccountPreview


def show(room: Postroom, message: Email | Sms, *, as_json: bool) -> None:
    """Print the preview. Raises what choosing an account raises."""
    accounts = room.preview(message)
    preview: dict[str, Any] = {
        "dry_run": True,
        "channel": str(message.channel_name),
        "accounts": [_account_json(account) for account in accounts],
        "from": str(message.from_ or next((a.sender for a in accounts if a.sender), "") or "") or None,
        "recipients": list(message.recipients),
    }
    preview |= _sms_preview(message) if isinstance(message, Sms) else _email_preview(a.message for a in accounts)
    if as_json:
        show_json(preview)
    else:
        _print(preview)


def _account_json(account: AccountPreview) -> dict[str, Any]:
    return {
        "account": account.account,
        "provider": account.provider,
        "from": account.sender,
        "unsupported": list(account.unsupported),
        "left_out": list(account.left_out),
        "problem": account.problem,
    }


def _sms_preview(sms: Sms) -> dict[str, Any]:
    found = sms.segments
    return {
        "segments": found.count,
        "encoding": found.encoding,
        "units": found.units,
        "units_per_segment": found.per_segment,
        "billed_segments": found.count * len(sms.recipients),
        "body": sms.body,
    }


def _email_preview(prepared: Iterable[object]) -> dict[str, Any]:
    """The e-mail as the first account that takes it would send it."""
    email = next((message for message in prepared if isinstance(message, Email)), None)
    if email is None:
        return {"bytes": None, "mime": None}
    content = to_bytes(email, smtputf8=needs_smtputf8(email))
    return {"bytes": len(content), "mime": content.decode("utf-8", "replace")}


def _print(preview: dict[str, Any]) -> None:
    show_text("dry run: nothing is sent")
    for account in preview["accounts"]:
        notes = [f"would refuse {', '.join(account['unsupported'])}"] if account["unsupported"] else []
        notes += [f"would leave out {', '.join(account['left_out'])}"] if account["left_out"] else []
        notes += [account["problem"]] if account["problem"] else []
        noted = f": {'; '.join(notes)}" if notes else ""
        show_text(f"account: {account['account']} ({account['provider']}){noted}")
    show_text(f"from: {preview['from']}")
    for recipient in preview["recipients"]:
        show_text(f"to: {recipient}")
    if preview["channel"] == "sms":
        show_text(
            f"segments: {preview['segments']} ({preview['encoding']}, {preview['units']} units, "
            f"{preview['units_per_segment']} a segment), {preview['billed_segments']} in all"
        )
        show_text(f"\n{preview['body']}")
    elif preview["mime"] is not None:
        show_text(f"size: {preview['bytes']} bytes\n\n{preview['mime']}")
