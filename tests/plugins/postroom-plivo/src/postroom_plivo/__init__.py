"""Plivo for postroom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postroom.plugin import hookimpl

if TYPE_CHECKING:
    from postroom_plivo.transport import PlivoSms

postroom_interface = 1


@hookimpl
def postroom_sms_transport() -> type[PlivoSms]:
    """Return the class that carries SMS; it is loaded when the provider is first used."""
    from postroom_plivo.transport import PlivoSms

    return PlivoSms
