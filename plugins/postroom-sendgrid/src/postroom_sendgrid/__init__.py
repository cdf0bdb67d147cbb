"""SendGrid for postroom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.plugin import hookimpl

if TYPE_CHECKING:
    from postroom_sendgrid.transport import SendGridEmail

postroom_interface = 1


@hookimpl
def postroom_email_transport() -> type[SendGridEmail]:
    """Return the SendGrid transport."""
    from postroom_sendgrid.transport import SendGridEmail  # noqa: PLC0415 - loaded when first used

    return SendGridEmail
