"""Failover over two mail servers, of which the first hangs up: before it has the message, and after."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from postroom.cli.demo.results import described, is_in_doubt, is_sent, result_of
from postroom.cli.demo.samples import SENDER, samples
from postroom.cli.output import show_text
from postroom.cli.tables import show_table
from postroom.client import Postroom
from postroom.receipts import Channel
from postroom.testing.smtp import SmtpRecorder

if TYPE_CHECKING:
    from postroom.delivery.bulk import Result

NEEDS = "smtp"
"""The provider that it is shown with."""


async def show_failover() -> bool:
    """Run it; return whether no message was lost and none had a second copy."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(SmtpRecorder())
        second = await stack.enter_async_context(SmtpRecorder())
        account = {"provider": NEEDS, "host": "127.0.0.1", "tls": "none", "from": SENDER}
        accounts = {"troubled": {**account, "port": first.port}, "mail": {**account, "port": second.port}}
        room = await stack.enter_async_context(
            Postroom(accounts=accounts, routes={"careful": {"via": ["troubled", "mail"]}})
        )

        result, copies = await _sent(room, first, second, drop="mail")
        _show("the first server hangs up before it has the message", result, copies)
        moved_on = copies == 1 and is_sent(result)

        result, copies = await _sent(room, first, second, drop="dot")
        _show("the first server takes the message and hangs up without a word", result, copies)
        return moved_on and copies == 0 and is_in_doubt(result)


async def _sent(room: Postroom, first: SmtpRecorder, second: SmtpRecorder, *, drop: str) -> tuple[Result, int]:
    """Send one message, which the first server drops at a stage; return its result, and its copies at the second."""
    first.drop(drop, times=1)
    before = len(second.messages)
    result = await result_of(room, samples(Channel.EMAIL, "careful")[0])
    return result, len(second.messages) - before


def _show(what: str, result: Result, copies: int) -> None:
    show_text(f"\nFailover, {what}")
    show_table(("copies at the second server", "answered"), [(str(copies), described(result))])
