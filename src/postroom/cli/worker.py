"""`postroom worker`: delivers what is in the outbox."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from postroom.cli.arguments import ConfigFile
from postroom.cli.output import reporting_errors, warn

if TYPE_CHECKING:
    import asyncio

    from postroom.client import Postroom
    from postroom.outbox.views import OutboxStats

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def worker(
    context: typer.Context,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="End once nothing is due any more.")] = False,
    config_file: ConfigFile = None,
) -> None:
    """Deliver what is in the outbox; as many of these as you like may work at one.

    On SIGTERM or Ctrl-C it takes nothing more, lets what is under way end, and exits with 0. A second signal ends it
    at once.
    """
    with reporting_errors():
        import asyncio

        from postroom.client import Postroom

        asyncio.run(_work(Postroom.from_config(config_file or context.obj), until_empty=until_empty))


async def _work(room: Postroom, *, until_empty: bool) -> None:
    from asyncio import Event

    from postroom.outbox.factory import location

    stop = Event()
    async with room:
        await room.outbox.stats()  # an outbox that cannot be used is an error now, not something to wait for
        _stop_on_a_signal(stop)
        until = "nothing is due" if until_empty else "SIGTERM or Ctrl-C"
        warn(f"delivering what is in {location(room.config.outbox)}, until {until}")
        await room.work(stop=stop, until_empty=until_empty)
        warn(_left(await room.outbox.stats()))


def _stop_on_a_signal(stop: asyncio.Event) -> None:
    from asyncio import get_running_loop

    loop = get_running_loop()

    def stopping() -> None:
        stop.set()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        warn("stopping once what is under way has ended; a second signal ends this at once")

    for number in SIGNALS:
        loop.add_signal_handler(number, stopping)


def _left(stats: OutboxStats) -> str:
    from postroom.outbox.states import SETTLED

    open_ = {status: count for status, count in stats.states.items() if status not in SETTLED}
    return f"ended; left: {', '.join(f'{count} {status}' for status, count in open_.items()) or 'nothing'}"
