"""`postroom send email` and `postroom send sms`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from postroom.cli.arguments import (
    AsJson,
    ConfigFile,
    bodies,
    file_text,
    given,
    headers,
    json_object,
    json_pairs,
    moment,
    pairs,
    with_option_groups,
)
from postroom.cli.output import INTERRUPTED, receipt_json, reporting_errors, show_json, show_text, warn

if TYPE_CHECKING:
    from postroom.client import Postroom
    from postroom.messages import Email, Sms
    from postroom.receipts import Receipt

app = typer.Typer(name="send", help="Send one message now.", no_args_is_help=True, rich_markup_mode=None)


@dataclass(frozen=True, kw_only=True)
class SendOptions:
    """The options of both commands, after those of the channel."""

    send_at: Annotated[str | None, typer.Option(help="When to send, as 2030-01-31T09:00:00+00:00.")] = None
    expires_at: Annotated[str | None, typer.Option(help="When it must not be sent any more, as an ISO 8601 time.")] = (
        None
    )
    priority: Annotated[str | None, typer.Option(help="high, normal or low.")] = None
    category: Annotated[str | None, typer.Option(help="transactional or marketing.")] = None
    provider: Annotated[str | None, typer.Option(help="Route, account or provider; else a rule or the default.")] = None
    option: Annotated[list[str], typer.Option(help="KEY=VALUE: credentials for this message alone.")] = field(
        default_factory=list
    )
    provider_option: Annotated[
        list[str], typer.Option(help="KEY=VALUE for the provider; the value is JSON, or text.")
    ] = field(default_factory=list)
    required: Annotated[bool, typer.Option("--required", help="Keep it in the outbox until it is delivered.")] = False
    idempotency_key: Annotated[str | None, typer.Option(help="Send once, however often this key is given.")] = None
    enqueue: Annotated[bool, typer.Option("--enqueue", help="Put it into the outbox, for a worker to deliver.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent and how; send nothing.")] = False
    as_json: AsJson = False
    config_file: ConfigFile = None

    def fields(self) -> dict[str, Any]:
        """Return the fields of the message that they fill. Raises UsageError."""
        return {
            "send_at": moment(self.send_at, "--send-at"),
            "expires_at": moment(self.expires_at, "--expires-at"),
            "priority": self.priority,
            "category": self.category,
            "provider": self.provider,
            "options": pairs(self.option, "--option"),
            "provider_options": json_pairs(self.provider_option, "--provider-option"),
            "required": self.required,
            "idempotency_key": self.idempotency_key,
        }


@app.command()
@with_option_groups
def email(
    context: typer.Context,
    *,
    to: Annotated[list[str], typer.Option(help="Recipient, as address or 'Name <address>'; repeatable.")] = [],
    cc: Annotated[list[str], typer.Option(help="Copy; repeatable.")] = [],
    bcc: Annotated[list[str], typer.Option(help="Blind copy; repeatable.")] = [],
    from_: Annotated[str | None, typer.Option("--from", help="Sender; else the account's.")] = None,
    reply_to: Annotated[list[str], typer.Option(help="Where answers go; repeatable.")] = [],
    subject: Annotated[str, typer.Option(help="Subject.")] = "",
    text: Annotated[str | None, typer.Option(help="Plain text; '-' reads standard input.")] = None,
    html: Annotated[str | None, typer.Option(help="HTML; '-' reads standard input.")] = None,
    attach: Annotated[list[Path], typer.Option(help="File to attach; repeatable.")] = [],
    inline: Annotated[list[Path], typer.Option(help="File shown in the HTML as cid:FILENAME; repeatable.")] = [],
    header: Annotated[list[str], typer.Option(help="'Name: value'; repeatable.")] = [],
    tag: Annotated[list[str], typer.Option(help="Tag; repeatable.")] = [],
    metadata: Annotated[list[str], typer.Option(help="KEY=VALUE that events bring back; repeatable.")] = [],
    template: Annotated[str | None, typer.Option(help="The provider's template.")] = None,
    merge_data: Annotated[str | None, typer.Option(help="JSON object: recipient -> values for the template.")] = None,
    calendar: Annotated[Path | None, typer.Option(help="iCalendar file, as an invitation.")] = None,
    amp: Annotated[Path | None, typer.Option(help="AMP for Email file.")] = None,
    options: SendOptions,
) -> None:
    """Send an e-mail. Without a body, the text is read from standard input."""
    with reporting_errors(as_json=options.as_json):
        from postroom.messages import Attachment, Email

        no_body = text is None and html is None and not (template or calendar or amp)
        files = [Attachment.from_path(path) for path in attach]
        files += [Attachment.from_path(path, inline=True) for path in inline]
        fields = {
            "to": to,
            "cc": cc,
            "bcc": bcc,
            "from": from_,
            "reply_to": reply_to,
            "subject": subject,
            **bodies({"text": text, "html": html}, fallback="text" if no_body else None),
            "attachments": files,
            "headers": headers(header),
            "tags": tag,
            "metadata": pairs(metadata, "--metadata"),
            "template": template,
            "merge_data": json_object(merge_data, "--merge-data"),
            "calendar": file_text(calendar, "--calendar"),
            "amp": file_text(amp, "--amp"),
            **options.fields(),
        }
        _send(Email(**given(fields)), options, options.config_file or context.obj)


@app.command()
@with_option_groups
def sms(
    context: typer.Context,
    *,
    to: Annotated[list[str], typer.Option(help="Number, as +442079460958; repeatable.")] = [],
    from_: Annotated[str | None, typer.Option("--from", help="Sender; else the account's.")] = None,
    body: Annotated[str | None, typer.Option(help="Text; '-' reads standard input.")] = None,
    media: Annotated[list[str], typer.Option(help="URL of a picture or file (MMS); repeatable.")] = [],
    channel: Annotated[str | None, typer.Option(help="sms or whatsapp.")] = None,
    options: SendOptions,
) -> None:
    """Send an SMS. Without a body or media, the text is read from standard input."""
    with reporting_errors(as_json=options.as_json):
        from postroom.messages import Sms

        fields = {
            "to": to,
            "from": from_,
            **bodies({"body": body}, fallback="body" if body is None and not media else None),
            "media": media,
            "channel": channel,
            **options.fields(),
        }
        _send(Sms(**given(fields)), options, options.config_file or context.obj)


def _send(message: Email | Sms, options: SendOptions, config_file: Path | None) -> None:
    from postroom.client import Postroom

    room = Postroom.from_config(config_file)
    if options.dry_run:
        from postroom.cli.dry_run import show

        show(room, message, as_json=options.as_json)
        return
    through_outbox = options.enqueue or message.required or message.idempotency_key is not None
    receipt = _kept(room, message, enqueue=options.enqueue) if through_outbox else _sent(room, message)
    if options.as_json:
        show_json(receipt_json(receipt))
    else:
        show_text(_summary(receipt))
    for result in receipt.recipients:
        if result.outcome != "accepted":
            warn(f"{result.address}: {result.outcome}: {result.detail or result.code}")


def _summary(receipt: Receipt) -> str:
    if receipt.status not in {"sent", "delivered"}:
        return f"{receipt.status}: {receipt.id} is in the outbox; `postroom worker` delivers what is there"
    identifier = f" as {receipt.provider_message_id}" if receipt.provider_message_id else ""
    return f"{receipt.status}: {receipt.account} ({receipt.provider}) took {receipt.id}{identifier}"


def _kept(room: Postroom, message: Email | Sms, *, enqueue: bool) -> Receipt:
    """Accept into the outbox; unless `enqueue`, deliver from there. Raises OutcomeUnknown on Ctrl-C."""
    import asyncio

    from postroom.errors import OutcomeUnknown
    from postroom.messages import new_id

    known = message if message.id else message.stamped(id=new_id())

    async def keep() -> Receipt:
        async with room:
            return await (room.enqueue(known) if enqueue else room.send(known))

    try:
        return asyncio.run(keep())
    except KeyboardInterrupt:
        raise OutcomeUnknown(
            f"interrupted: message {known.id} may be in the outbox, from where it is delivered; "
            f"`postroom outbox show {known.id}` says"
        ) from None


def _sent(room: Postroom, message: Email | Sms) -> Receipt:
    """Send, and say on Ctrl-C whether the message may be on its way.

    Raises OutcomeUnknown when it was handed over, and exits when it surely was not.
    """
    import asyncio

    from postroom.errors import OutcomeUnknown
    from postroom.plugin.cancellation import was_handed_over

    interrupted = asyncio.CancelledError()

    async def send() -> Receipt:
        nonlocal interrupted
        async with room:
            try:
                return await room.send(message)
            except asyncio.CancelledError as cancelled:
                interrupted = cancelled
                raise

    try:
        return asyncio.run(send())
    except KeyboardInterrupt:
        if not was_handed_over(interrupted):
            warn("interrupted before the message was handed over; nothing was sent")
            raise typer.Exit(INTERRUPTED) from None
        what = interrupted.__notes__[0]
        raise OutcomeUnknown(
            f"interrupted: {what}; it may have been sent, so look for it before sending it again"
        ) from None
