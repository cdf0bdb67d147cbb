"""SendGrid for postroom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.plugin import hookimpl

if TYPE_CHECKING:
    from postroom.plugin.demonstration import Demonstration
    from postroom_sendgrid.transport import SendGridEmail

postroom_interface = 1


@hookimpl
def postroom_email_transport() -> type[SendGridEmail]:
    """Return the SendGrid transport."""
    from postroom_sendgrid.transport import SendGridEmail  # noqa: PLC0415 - loaded when first used

    return SendGridEmail


@hookimpl
def postroom_demonstrations() -> list[Demonstration]:
    """Return what `postroom demo` shows."""
    from postroom_sendgrid.demonstration import SendGridDemonstration  # noqa: PLC0415 - loaded for the demo alone

    return [SendGridDemonstration()]
