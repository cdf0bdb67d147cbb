"""One SMTP session: transactions one behind the other, each reply paired with its command, never out of step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from postroom.errors import MessageError
from postroom_smtp.delivery import Delivery, Transaction
from postroom_smtp.replies import ReplyReader, SmtpReply
from postroom_smtp.timeouts import LOOKS, unsent

if TYPE_CHECKING:
    from postroom.errors import PostroomError
    from postroom_smtp.envelope import Extensions
    from postroom_smtp.errors import SmtpErrors
    from postroom_smtp.timeouts import Timeouts

CHUNK = 65_536
"""Octets written at once. The final dot of anything longer waits until all before it has left the process."""


class SessionOwner(Protocol):
    """The owner of sessions: gives them messages, and hears when one is idle, leaving or lost."""

    def next_delivery(self) -> Delivery | None: ...
    def resume(self, delivery: Delivery) -> None: ...
    def rest(self, session: Session) -> None: ...
    def leaving(self, session: Session) -> None: ...
    def lost(self, session: Session, stranded: Delivery | None, stalled: PostroomError | None) -> None: ...
    def not_pipelining(self) -> None: ...


class Session(asyncio.Protocol):
    """Takes over a connection after EHLO, TLS and AUTH, and carries what its owner has waiting.

    With PIPELINING the content of one message and the envelope of the next travel in one write (RFC 2920
    section 3.1: DATA ends a group, content may begin one), so that each message costs one round trip. Without
    it every command waits for the reply to the one before.

    A message is handed over at the moment its final dot is written: until then the end of the session
    costs it nothing, afterwards its outcome is unknown.

    Its time runs only while nothing moves: each reply, each octet that comes or leaves begins it anew, but for a
    single reply that never ends.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        server: Extensions,
        owner: SessionOwner,
        errors: SmtpErrors,
        timeouts: Timeouts,
    ) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self.served_at = 0.0
        """When it last brought a message on: an answer settled one, or content left; by the loop's clock."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._server = server
        self._owner = owner
        self._errors = errors
        self._timeouts = timeouts
        self._reader = ReplyReader()
        self._all_read = True
        self._asking: Transaction | None = None
        self._writing: Transaction | None = None
        self._confirming: asyncio.Task[None] | None = None
        self._unwritten = memoryview(b"")
        self._paused = False
        self._reset_due = False
        self._resetting = False
        self._used = False
        self._ended = False
        self._quitting = False
        self._waiting_since = self._moved_at = self._loop.time()
        self._unsent = (0, 0)
        self._timer = self._loop.call_at(self._moved_at + timeouts.message / LOOKS, self._look_at_clock)
        transport.set_write_buffer_limits(high=1, low=0)
        transport.set_protocol(self)

    # --- called by the owner

    def proceed(self) -> None:
        """Begin with the next waiting message, or rest."""
        if self._ended:
            return
        opening = self._opening()
        self._restart_clock()
        if opening:
            self._transport.write(opening)
        else:
            self._owner.rest(self)

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits any more for what it is busy with."""
        busy_with = [transaction for transaction in (self._asking, self._writing) if transaction is not None]
        return bool(busy_with) and all(transaction.delivery.over for transaction in busy_with)

    def withdraw(self, delivery: Delivery) -> None:
        """Forget a cancelled message.

        What is handed over stays in step by itself, and what waits behind another message is dropped when that is
        through; only a session that is busy with this message alone is given up.
        """
        asking, writing = self._asking, self._writing
        alone = writing is None and asking is not None and asking.delivery is delivery
        unfinished = writing is not None and writing.delivery is delivery and not writing.handed_over
        if alone or unfinished:
            self._end("was left by a cancelled message")

    def quit(self) -> None:
        """Send QUIT; the connection closes within a few seconds."""
        if self._ended or self._quitting:
            return
        self._quitting = True
        self._owner.leaving(self)
        self._restart_clock()
        self._transport.write(b"QUIT\r\n")

    def abort(self) -> None:
        """Drop the connection now."""
        self._end("was closed from this side")

    # --- called by asyncio

    def data_received(self, data: bytes) -> None:
        replies = self._reader.feed(data)
        self._moved_at = self._loop.time()
        if replies:
            self._waiting_since = self._moved_at
        last = len(replies) - 1
        for position, reply in enumerate(replies):
            if self._ended:
                return
            self._all_read = position == last and self._reader.between_replies
            self._on_reply(reply)
        if self._reader.broken:
            self._end(f"sent {self._reader.broken}")

    def eof_received(self) -> bool:
        self._end("closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"broke the connection ({type(exc).__name__})" if exc else "closed the connection")
        self._timer.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        writing = self._writing
        if writing is not None and writing.confirmed and not writing.handed_over and not self._ended:
            self._write_on(writing)

    # --- replies

    def _on_reply(self, reply: SmtpReply) -> None:
        if self._writing is not None:
            self._on_content_reply(self._writing, reply)
        elif self._resetting:
            self._on_reset_reply(reply)
        elif self._asking is not None:
            self._on_envelope_reply(self._asking, reply)
        elif self._quitting:
            self._end("answered QUIT")
        else:
            self._end(f"answered {reply.code} without being asked")

    def _on_content_reply(self, transaction: Transaction, reply: SmtpReply) -> None:
        if not transaction.handed_over:
            self._on_early_reply(transaction, reply)
            return
        if not (reply.positive or reply.negative):
            self._end(f"answered {reply.code} to the message, which is neither yes nor no")
            return
        self._writing, self._used = None, True
        self.served_at = self._moved_at
        transaction.settle_content(reply)
        self._finish(transaction)
        if reply.code == 421:
            self._end("announced that it closes", reply)
        elif self._asking is None:
            self.proceed()

    def _on_early_reply(self, transaction: Transaction, reply: SmtpReply) -> None:
        """A refusal in the middle of the content stands; nothing else may come before the final dot."""
        if reply.negative:
            self._writing = None
            transaction.settle_content(reply)
            self._finish(transaction)
        self._end(f"answered {reply.code} before the end of the message", reply)

    def _on_reset_reply(self, reply: SmtpReply) -> None:
        self._resetting = False
        if not reply.positive:
            self._end(f"answered {reply.code} to RSET", reply)
        elif self._asking is not None and not self._asking.replies and not self._server.pipelining:
            self._transport.write(self._asking.commands[0])

    def _on_envelope_reply(self, transaction: Transaction, reply: SmtpReply) -> None:
        if reply.code == 421:
            self._end("announced that it closes", reply)
            return
        wrong = transaction.add_reply(reply)
        if wrong:
            self._end(f"is out of step: it {wrong}")
        elif transaction.answered or (transaction.pointless and not self._server.pipelining):
            self._end_envelope(transaction)
        elif not self._server.pipelining:
            self._transport.write(transaction.commands[len(transaction.replies)])

    def _end_envelope(self, transaction: Transaction) -> None:
        if transaction.may_continue():
            self._begin_content(transaction)
            return
        self._asking, self._used = None, True
        self.served_at = self._moved_at
        self._reset_due = transaction.opened
        invited = transaction.answered and transaction.replies[-1].code == 354
        transaction.settle_refused()
        self._finish(transaction)
        if invited:
            # Only a dot or the end of the connection leaves this state, and a dot would send an empty message.
            self._end("asked for a message that nobody would get")
        else:
            self.proceed()

    def _finish(self, transaction: Transaction) -> None:
        if transaction.delivery.left and not transaction.delivery.over:
            self._owner.resume(transaction.delivery)

    # --- commands and content

    def _opening(self) -> bytes:
        """Take the next message and return the commands that open its transaction; nothing when none waits."""
        while (delivery := self._owner.next_delivery()) is not None:
            try:
                self._asking = transaction = Transaction(delivery, self._server)
            except MessageError as error:
                delivery.fail(error)
                continue
            delivery.session = self
            self._resetting, self._reset_due = self._reset_due, False
            commands = transaction.commands
            if self._server.pipelining:
                return b"".join([b"RSET\r\n", *commands] if self._resetting else commands)
            return b"RSET\r\n" if self._resetting else commands[0]
        return b""

    def _begin_content(self, transaction: Transaction) -> None:
        if not self._all_read:
            self._end("is out of step: it went on talking after it asked for the message")
        elif transaction.delivery.over:
            self._end("was left by a cancelled message")
        else:
            transaction.settle_envelope()
            self._asking, self._writing = None, transaction
            if transaction.confirmed:
                self._write_content(transaction)
            else:
                self._confirming = self._loop.create_task(self._confirm(transaction))

    async def _confirm(self, transaction: Transaction) -> None:
        """Write the content if the message may still go out. Only the end of the connection leaves this state else."""
        assert transaction.delivery.confirm
        try:
            await transaction.delivery.confirm()
        except Exception as error:  # noqa: BLE001 - whoever waits must get it
            transaction.delivery.withdraw(error)
        if self._ended or self._writing is not transaction:
            return
        if transaction.delivery.over:
            self._end("was left by a message that was withdrawn")
        else:
            transaction.confirmed = True
            self._write_content(transaction)

    def _write_content(self, transaction: Transaction) -> None:
        content = transaction.delivery.message.content
        if len(content) <= CHUNK:
            self._hand_over(transaction, content)
        else:
            self._unwritten = memoryview(content)
            self._write_on(transaction)

    def _write_on(self, transaction: Transaction) -> None:
        """Write as much as leaves the process at once, and the final dot only after all the rest has left."""
        while not self._paused and len(self._unwritten) > CHUNK:
            self._write_piece(CHUNK)
        if not self._paused and len(self._unwritten) > len(b".\r\n"):
            self._write_piece(len(self._unwritten) - len(b".\r\n"))
        if not (self._paused or transaction.handed_over or self._transport.is_closing()):
            self._hand_over(transaction, bytes(self._unwritten))

    def _write_piece(self, size: int) -> None:
        piece, self._unwritten = self._unwritten[:size], self._unwritten[size:]
        if not self._transport.is_closing():
            self._transport.write(piece)

    def _hand_over(self, transaction: Transaction, ending: bytes) -> None:
        """Write the last piece of the content, and with it the envelope of the next message."""
        self._unwritten = memoryview(b"")
        transaction.handed_over = True
        self._restart_clock()
        self._transport.write(ending + self._opening() if self._server.pipelining else ending)
        if self._transport.is_closing():
            # asyncio closes at once when a write to an empty buffer fails: none of it left.
            transaction.handed_over = False

    # --- the end

    def _end(self, why: str, reply: SmtpReply | None = None, *, timed_out: bool = False) -> None:
        """Give the connection up, and settle or pass on what was on it."""
        if self._ended:
            return
        self._ended = True
        asking, writing = self._asking, self._writing
        self._asking = self._writing = None
        self._transport.abort()
        if writing is not None:
            self._break_off(writing, why)
        fresh = not self._used and writing is None
        stranded = asking.delivery if asking is not None and not asking.delivery.over else None
        if stranded is not None and (fresh or stranded.moved or (timed_out and writing is None)):
            stranded.fail(self._errors.refused(reply, "the envelope") if reply else self._errors.unreachable(why))
            stranded = None
        self._owner.lost(self, stranded, self._errors.unreachable(why) if timed_out else None)

    def _break_off(self, transaction: Transaction, why: str) -> None:
        before = self._errors.unreachable(why)
        transaction.break_off(self._errors.unknown(why) if transaction.handed_over else before, before)

    # --- time

    def _restart_clock(self) -> None:
        self._waiting_since = self._moved_at = self._loop.time()
        due = self._moved_at + self._limit
        if due < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(due, self._look_at_clock)

    @property
    def _limit(self) -> float:
        """Seconds in which nothing may move, by what the session waits for."""
        if self._quitting or self._ended:
            return self._timeouts.quit
        if self._writing is not None and self._writing.handed_over:
            return self._timeouts.final
        busy = self._asking is not None or self._writing is not None
        return self._timeouts.message if busy else self._timeouts.idle

    def _look_at_clock(self) -> None:
        now, limit = self._loop.time(), self._limit
        if self._writing is not None and (waiting := unsent(self._transport)) != self._unsent:
            self._unsent, self._moved_at, self._waiting_since, self.served_at = waiting, now, now, now
        due = min(self._moved_at + limit, self._waiting_since + max(limit, self._timeouts.final))
        if now < due:
            self._timer = self._loop.call_at(min(due, now + self._timeouts.message / LOOKS), self._look_at_clock)
        elif self._ended or self._quitting:
            self._end("did not close after QUIT")
            self._transport.abort()
        elif self._asking is None and self._writing is None:
            self.quit()
        else:
            self._time_out(limit)

    def _time_out(self, limit: float) -> None:
        asking, writing = self._asking, self._writing
        if asking is not None and self._server.pipelining and asking.replies and writing is None:
            self._owner.not_pipelining()
        stuck = writing is not None and not writing.handed_over
        what = "took no more of the message" if stuck else "gave no answer"
        self._end(f"{what} within {limit:g} s", timed_out=True)
