"""SMTP for postroom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.plugin import hookimpl

if TYPE_CHECKING:
    from postroom.plugin.demonstration import Demonstration
    from postroom_smtp.transport import SmtpEmail

postroom_interface = 1


@hookimpl
def postroom_email_transport() -> type[SmtpEmail]:
    """Return the SMTP transport."""
    from postroom_smtp.transport import SmtpEmail  # noqa: PLC0415 - loaded when first used

    return SmtpEmail


@hookimpl
def postroom_demonstrations() -> list[Demonstration]:
    """Return what `postroom demo` shows."""
    from postroom_smtp.demonstration import SmtpDemonstration  # noqa: PLC0415 - loaded for the demo alone

    return [SmtpDemonstration()]
