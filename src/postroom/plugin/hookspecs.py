"""The hooks of postroom.

A provider is an entry point in the group `postroom`: its name is the provider's name, its value a module (or
object) with implementations of the first three hooks. Observers, gates and commands are entry points in the
group `postroom.extensions` and load when `[plugins] extensions` names them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    import typer

    from postroom.events import Event
    from postroom.messages import Email, Message, Sms
    from postroom.plugin.demonstration import Demonstration
    from postroom.plugin.transport import Transport
    from postroom.receipts import Receipt

PROJECT = "postroom"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def postroom_email_transport() -> type[Transport[Any, Email]]:
    """Return the class that carries this provider's e-mail. Called once, when the provider is first used."""
    raise NotImplementedError


@hookspec
def postroom_sms_transport() -> type[Transport[Any, Sms]]:
    """Return the class that carries this provider's SMS. Called once, when the provider is first used."""
    raise NotImplementedError


@hookspec
def postroom_demonstrations() -> Sequence[Demonstration]:
    """Return what `postroom demo` shows of this provider."""
    raise NotImplementedError


@hookspec
def postroom_on_event(event: Event, receipt: Receipt) -> None:
    """Observe what happened to a message, after the fact. Failures are logged and change nothing."""


@hookspec
def postroom_around_send(message: Message, account: str) -> AbstractAsyncContextManager[None] | None:
    """Return a context to enter around one hand-over (tracing, a gate), or None.

    It is entered before the transport is called and left after it answered; an exception raised on entering
    means nothing was sent.
    """


@hookspec
def postroom_transform_message(message: Message, account: str) -> Message | None:
    """Return another message to hand over in place of `message`, or None to leave it as it is.

    Called for each attempt, when the message has its id, sender and Message-ID; what is returned is checked like any
    message, and must keep those and its recipients. An exception means nothing was sent.
    """


@hookspec
def postroom_transform_content(content: bytes, message: Email, account: str) -> bytes | None:
    """Return other bytes to hand over in place of `content`, an e-mail as it travels; or None to leave it as it is.

    Called by transports that write the bytes themselves (`Transport.write`), for signatures such as DKIM. The lines of
    what is returned end in CRLF and have at most 998 octets. An exception means nothing was sent.
    """


@hookspec
def postroom_commands(app: typer.Typer) -> None:
    """Add commands to the `postroom` command line."""
