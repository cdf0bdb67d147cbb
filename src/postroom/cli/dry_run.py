"""`--dry-run`: what would be sent, through which accounts, and what they would refuse. Opens no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from postroom.addresses import Address
from postroom.cli.output import show_json
from postroom.config.accounts import settings_for_message
from postroom.errors import MessageError, PostroomError
from postroom.messages import Email, Sms, new_id
from postroom.mime import needs_smtputf8, to_bytes
from postroom.plugin.resources import Resources

if TYPE_CHECKING:
    from postroom.client import Postroom
    from postroom.delivery.accounts import Target
    from postroom.plugin.settings import AccountSettings


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


def _settings(room: Postroom, target: Target, message: Email | Sms) -> AccountSettings:
    """Return the settings the message would go out with, its own credentials over the account's."""
    if not message.options:
        return room.settings(target, message.channel_name)
    model = room.registry.transport(target.provider, message.channel_name).settings_model
    base = room.config.accounts[target.name] if target.configured else {"provider": target.provider}
    return settings_for_message(target.name, base, model, message.options)


def _account(room: Postroom, target: Target, message: Email | Sms) -> dict[str, Any]:
    """What one account would make of the message: which features it would refuse or leave out, and other problems."""
    kind = room.registry.transport(target.provider, message.channel_name)
    missing = sorted(message.features - kind.capabilities.features)
    preview: dict[str, Any] = {"account": target.name, "provider": target.provider, "from": None}
    preview |= {"unsupported": missing, "left_out": [], "problem": None}
    try:
        settings = _settings(room, target, message)
        preview["from"] = settings.from_
        if settings.unsupported == "warn":
            preview |= {"unsupported": [], "left_out": missing}
        kind(target.name, settings, Resources()).validate(_stamped(message, settings.from_))
    except PostroomError as error:
        preview["problem"] = str(error)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        preview["problem"] = f"{target.provider} raised {type(error).__name__}, which is a fault in the plugin"
    return preview


def _stamped(message: Email | Sms, sender: str | None) -> Email | Sms:
    """Return the message as a transport would get it. Raises MessageError without a sender that e-mail needs."""
    if isinstance(message, Sms):
        return message.stamped(id=message.id or new_id(), from_=message.from_ or sender)
    if not (message.from_ or sender):
        raise MessageError("no sender: give --from, or set from on the account")
    try:
        from_ = message.from_ or Address.model_validate(sender)
    except ValueError:
        raise MessageError(f"the account's from, {sender!r}, is not an e-mail address") from None
    identifier = message.id or new_id()
    message_id = message.message_id or f"<{identifier}@postroom.invalid>"
    return message.stamped(id=identifier, from_=from_, message_id=message_id)


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
    if not (email.from_ or sender):
        return {"bytes": None, "mime": None}
    stamped = _stamped(email, sender)
    assert isinstance(stamped, Email)
    content = to_bytes(stamped, smtputf8=needs_smtputf8(stamped))
    return {"bytes": len(content), "mime": content.decode("utf-8", "replace")}


def _print(preview: dict[str, Any]) -> None:
    typer.echo("dry run: nothing is sent")
    for account in preview["accounts"]:
        notes = [f"would refuse {', '.join(account['unsupported'])}"] if account["unsupported"] else []
        notes += [f"would leave out {', '.join(account['left_out'])}"] if account["left_out"] else []
        notes += [account["problem"]] if account["problem"] else []
        suffix = f": {'; '.join(notes)}" if notes else ""
        typer.echo(f"account: {account['account']} ({account['provider']}){suffix}")
    typer.echo(f"from: {preview['from']}")
    for recipient in preview["recipients"]:
        typer.echo(f"to: {recipient}")
    if preview["channel"] == "sms":
        typer.echo(
            f"segments: {preview['segments']} ({preview['encoding']}, {preview['units']} units, "
            f"{preview['units_per_segment']} a segment), {preview['billed_segments']} in all"
        )
        typer.echo(f"\n{preview['body']}")
    elif preview["mime"] is not None:
        typer.echo(f"size: {preview['bytes']} bytes\n\n{preview['mime']}")
