"""Twilio for postroom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.plugin import hookimpl

if TYPE_CHECKING:
    from postroom.plugin.demonstration import Demonstration
    from postroom_twilio.transport import TwilioSms

postroom_interface = 1


@hookimpl
def postroom_sms_transport() -> type[TwilioSms]:
    """Return the Twilio transport."""
    from postroom_twilio.transport import TwilioSms  # noqa: PLC0415 - loaded when first used

    return TwilioSms


@hookimpl
def postroom_demonstrations() -> list[Demonstration]:
    """Return what `postroom demo` shows."""
    from postroom_twilio.demonstration import TwilioDemonstration  # noqa: PLC0415 - loaded for the demo alone

    return [TwilioDemonstration()]
