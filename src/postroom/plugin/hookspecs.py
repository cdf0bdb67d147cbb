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
    """Return a context to enter around one hand-over (tracing, signing, a gate), or None.

    It is entered before the transport is called and left after it answered; an exception raised on entering
    means nothing was sent.
    """


@hookspec
def postroom_commands(app: typer.Typer) -> None:
    """Add commands to the `postroom` command line."""
