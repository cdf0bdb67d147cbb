"""`--dry-run`: what would be sent, through which accounts, and what they would refuse. Opens no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from postroom.addresses import Address
from postroom.cli.exits import show_json
from postroom.errors import PostroomError
from postroom.messages import Email, Sms, new_id
from postroom.mime import needs_smtputf8, to_bytes

if TYPE_CHECKING:
    from postroom.accounts import Target
    from postroom.room import Postroom


def show(room: Postroom, message: Email | Sms, *, as_json: bool) -> None:
    """Print the preview. Raises what choosing an account raises."""
    accounts = [_account(room, target, message) for target in room.targets(message)]
    preview: dict[str, Any] = {
        "dry_run": True,
        "channel": str(message.channel_name),
        "accounts": accounts,
        "from": str(message.from_ or next((a["from"] for a in accounts if a["from"]), "") or "") or None,
        "recipients": list(message.recipients),
    }
    preview |= _sms_preview(message) if isinstance(message, Sms) else _email_preview(message, preview["from"])
    if as_json:
        show_json(preview)
    else:
        _print(preview)


def _account(room: Postroom, target: Target, message: Email | Sms) -> dict[str, Any]:
    """What one account would make of the message; without settings it can still be judged by its transport."""
    transport = room.registry.transport(target.provider, message.channel_name)
    unsupported = sorted(message.features - transport.capabilities.features)
    sender, problem = None, None
    try:
        sender = room.settings(target, message.channel_name).from_
    except PostroomError as error:
        problem = None if message.options else str(error)
    return {
        "account": target.name,
        "provider": target.provider,
        "from": sender,
        "unsupported": unsupported,
        "problem": problem,
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


def _email_preview(email: Email, sender: str | None) -> dict[str, Any]:
    from_ = email.from_ or (Address.model_validate(sender) if sender else None)
    stamped = email.stamped(from_=from_, message_id=email.message_id or f"<{new_id()}@postroom.invalid>")
    content = to_bytes(stamped, smtputf8=needs_smtputf8(stamped))
    return {"bytes": len(content), "mime": content.decode("utf-8", "replace")}


def _print(preview: dict[str, Any]) -> None:
    typer.echo("dry run: nothing is sent")
    for account in preview["accounts"]:
        notes = [f"cannot send {', '.join(account['unsupported'])}"] if account["unsupported"] else []
        notes += [account["problem"]] if account["problem"] else []
        told = f": {'; '.join(notes)}" if notes else ""
        typer.echo(f"account: {account['account']} ({account['provider']}){told}")
    typer.echo(f"from: {preview['from']}")
    for recipient in preview["recipients"]:
        typer.echo(f"to: {recipient}")
    if preview["channel"] == "sms":
        typer.echo(
            f"segments: {preview['segments']} ({preview['encoding']}, {preview['units']} units, "
            f"{preview['units_per_segment']} a segment), {preview['billed_segments']} in all"
        )
        typer.echo(f"\n{preview['body']}")
    else:
        typer.echo(f"size: {preview['bytes']} bytes\n\n{preview['mime']}")
