"""Connection pool of one account, and the queue of messages that wait for a connection."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from postroom.errors import DeliveryError, Outcome, PostroomError
from postroom.plugin import confirmation, mark_cancelled
from postroom_smtp.delivery import Delivery
from postroom_smtp.session import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from postroom.receipts import Accepted
    from postroom_smtp.connector import Connection
    from postroom_smtp.envelope import PreparedMessage
    from postroom_smtp.errors import SmtpErrors
    from postroom_smtp.timeouts import Timeouts

RECONNECT_SECONDS = 5.0
"""How long no further connection is tried after one failed, while others still work."""

TRIES = 4
"""Connections that must fail one after the other, while none lives, until all who wait hear of it."""

PAUSE_SECONDS = 0.1
"""Before the third connection in a row; before each further one it is twice as long. The second comes at once."""


class Pool:
    """At most `size` sessions, opened when messages wait, closed when they rest too long.

    The first connection is opened alone. When credentials are wrong, everything that waits hears so after that one
    attempt. One that breaks fails the message it was opened for; the others try another, within their own time, and
    all hear of it after `TRIES`. Whoever has waited for `Timeouts.message` while no message got on at any connection
    fails together with the one that stalls.
    """

    def __init__(
        self, size: int, connect: Callable[[], Awaitable[Connection]], errors: SmtpErrors, timeouts: Timeouts
    ) -> None:
        self._size = size
        self._connect = connect
        self._errors = errors
        self._timeouts = timeouts
        self._waiting: deque[Delivery] = deque()
        self._idle: list[Session] = []
        self._live: set[Session] = set()
        self._unclosed: set[Session] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._not_before = 0.0
        self._failed = 0
        self._pause: asyncio.TimerHandle | None = None
        self._served_at = 0.0
        self._pipelining = True
        self._closed = False

    async def deliver(self, message: PreparedMessage) -> Accepted:
        """Hand `message` over once. Raises DeliveryError, MessageError when the server cannot take it, or Withdrawn."""
        if self._closed:
            raise self._errors.unreachable("is no longer used: the account was closed")
        loop = asyncio.get_running_loop()
        delivery = Delivery(message, loop.create_future(), self._errors, confirmation(), loop.time())
        self._waiting.append(delivery)
        self._rouse()
        try:
            return await delivery.future
        except asyncio.CancelledError as cancelled:
            _mark(cancelled, self._errors.account, delivery)
            if delivery.session is not None:
                delivery.session.withdraw(delivery)
            raise

    async def close(self) -> None:
        """Let what is on the wire end, refuse what waits, and say QUIT; takes the longest timeout and a bit at most.

        An answer that nobody waits for any more, since the message was cancelled, is not waited for either.
        """
        self._closed = True
        self._end_pause()
        while self._connecting:
            for task in self._connecting:
                task.cancel()
            # asyncio.wait_for of Python 3.11 may swallow a cancellation, so once may not be enough.
            await asyncio.wait(self._connecting, timeout=0.1)
        self._fail_waiting(self._errors.unreachable("was not tried: the account was closed"))
        for session in list(self._idle):
            session.quit()
        for session in list(self._unclosed):
            if session.is_abandoned:
                session.abort()
        closing = [session.closed for session in self._unclosed]
        if closing:
            longest = max(self._timeouts.message, self._timeouts.final)
            await asyncio.wait(closing, timeout=longest + 2 * self._timeouts.quit)
        for session in list(self._unclosed):
            session.abort()

    # --- called by sessions

    def next_delivery(self) -> Delivery | None:
        """Take the message that has waited longest, past those that were cancelled."""
        while self._waiting and not self._closed:
            delivery = self._waiting.popleft()
            if not delivery.over:
                return delivery
        return None

    def resume(self, delivery: Delivery) -> None:
        """Go on with the recipients that are left."""
        self._waiting.appendleft(delivery)
        if self._closed:
            self._fail_waiting(self._errors.unreachable("was not asked again: the account was closed"))
        else:
            self._rouse()

    def rest(self, session: Session) -> None:
        """Keep a session that has nothing to do."""
        if self._closed:
            session.quit()
        else:
            self._idle.append(session)

    def leaving(self, session: Session) -> None:
        """Count a session that says QUIT as gone."""
        self._live.discard(session)
        if session in self._idle:
            self._idle.remove(session)

    def lost(self, session: Session, stranded: Delivery | None, stalled: PostroomError | None) -> None:
        """Count a session as gone, by `stalled` if its server stalls; the message that waited on it is the next."""
        self.leaving(session)
        self._served_at = max(self._served_at, session.served_at)
        if stranded is not None:
            stranded.moved = True
            self._waiting.appendleft(stranded)
            if self._closed:
                self._fail_waiting(self._errors.unreachable("closed the connection before the message"))
                return
        if stalled is not None:
            self._fail_overdue(stalled)
        elif stranded is not None and self._may_open():
            self._open(self._waiting.popleft())
        self._rouse()

    def not_pipelining(self) -> None:
        """Stop using PIPELINING: the server offers it and does not do it."""
        self._pipelining = False

    # --- connections

    def _rouse(self) -> None:
        """Put as many sessions to work as there are messages waiting."""
        while self._waiting and self._idle:
            self._idle.pop().proceed()
        while self._may_open() and len(self._connecting) < len(self._waiting):
            self._open(None)

    def _may_open(self) -> bool:
        if self._closed or len(self._live) + len(self._connecting) >= self._size:
            return False
        if not self._live:
            return not self._connecting and self._pause is None
        return asyncio.get_running_loop().time() >= self._not_before

    def _open(self, first: Delivery | None) -> None:
        task = asyncio.get_running_loop().create_task(self._add_session(first), name="postroom-smtp connect")
        self._connecting.add(task)

    async def _add_session(self, first: Delivery | None) -> None:
        """Connect, and begin with `first`, else with what waits."""
        failure: PostroomError | None = None
        try:
            connection = await self._connect()
        except PostroomError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, those who wait must hear of it
            failure = self._errors.unreachable(f"could not be connected ({type(error).__name__})")
            failure.__cause__ = error
        finally:
            if first is not None:
                self._waiting.appendleft(first)
            self._connecting.remove(cast("asyncio.Task[None]", asyncio.current_task()))
        if failure is None:
            self.keep(connection)
        else:
            self._connect_failed(failure)
        self._rouse()

    def keep(self, connection: Connection) -> None:
        """Put a connection to work that is ready for MAIL."""
        offered = connection.extensions if self._pipelining else replace(connection.extensions, pipelining=False)
        self._failed = 0
        session = Session(connection.transport, offered, self, self._errors, self._timeouts)
        self._live.add(session)
        self._unclosed.add(session)
        session.closed.add_done_callback(lambda _: self._unclosed.discard(session))
        session.proceed()

    def _connect_failed(self, failure: PostroomError) -> None:
        """Leave the messages to the sessions that work; with none, all but one to another try unless all fail alike."""
        if self._live:
            self._not_before = asyncio.get_running_loop().time() + RECONNECT_SECONDS
        elif not self._connecting:
            self._failed += 1
            passing = isinstance(failure, DeliveryError) and failure.outcome is Outcome.TRANSIENT
            if not passing or self._failed >= TRIES:
                self._failed = 0
                self._fail_waiting(failure)
                return
            self._fail_overdue(failure)
            if (first := self.next_delivery()) is not None:
                first.fail(failure)
            if not self._waiting:
                self._failed = 0  # whoever comes next begins anew, and is kept waiting by no pause
            elif self._failed > 1:
                seconds = PAUSE_SECONDS * 2 ** (self._failed - 2)
                self._pause = asyncio.get_running_loop().call_later(seconds, self._end_pause)

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            self._rouse()

    def _fail_overdue(self, error: PostroomError) -> None:
        """Fail those whose own time is up, while no message gets on: each would only wait for it once more."""
        due = asyncio.get_running_loop().time() - self._timeouts.message
        if max([self._served_at, *(session.served_at for session in self._live)]) > due:
            return
        waiting, self._waiting = self._waiting, deque()
        for delivery in waiting:
            if delivery.waits_since <= due:
                delivery.fail(error)
            else:
                self._waiting.append(delivery)

    def _fail_waiting(self, error: PostroomError) -> None:
        while self._waiting:
            self._waiting.popleft().fail(error)


def _mark(cancelled: asyncio.CancelledError, account: str, delivery: Delivery) -> None:
    """Say on a cancellation how far its message had come."""
    if delivery.future.done() and not delivery.future.cancelled():
        mark_cancelled(cancelled, f"{account}: cancelled just after the server had answered", handed_over=True)
    elif delivery.handed_over:
        note = f"{account}: cancelled after the message was handed over; its outcome is unknown"
        mark_cancelled(cancelled, note, handed_over=True)
    else:
        note = f"{account}: cancelled before the message was handed over; nothing was sent"
        mark_cancelled(cancelled, note, handed_over=False)
