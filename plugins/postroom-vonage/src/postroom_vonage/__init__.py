"""Vonage for postroom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.plugin import hookimpl

if TYPE_CHECKING:
    from postroom.plugin.demonstration import Demonstration
    from postroom_vonage.transport import VonageSms

postroom_interface = 1


@hookimpl
def postroom_sms_transport() -> type[VonageSms]:
    """Return the Vonage transport."""
    from postroom_vonage.transport import VonageSms  # noqa: PLC0415 - loaded when first used

    return VonageSms


@hookimpl
def postroom_demonstrations() -> list[Demonstration]:
    """Return what `postroom demo` shows."""
    from postroom_vonage.demonstration import MessagesDemonstration, SmsDemonstration  # noqa: PLC0415 - loaded for the demo alone

    return [MessagesDemonstration(), SmsDemonstration()]
