"""Dispatcher of one account: concurrency, rate, batching and time limit, and which outcome an attempt had."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from postroom.addresses import Address
from postroom.delivery.rate_limiter import RateLimiter
from postroom.errors import ConfigError, ContractViolation, DeliveryError, OutcomeUnknown, PostroomError
from postroom.plugin.cancellation import (
    is_being_cancelled,
    keep_answer,
    kept_answer,
    mark_cancelled,
    was_handed_over,
)
from postroom.plugin.confirmation import Withdrawn, confirmation, confirming
from postroom.plugin.time_limit import ends_at
from postroom.plugin.transport import Transport
from postroom.receipts import Accepted, Channel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from postroom.delivery.middleware import Entered, SendMiddleware
    from postroom.delivery.transforms import Transforms
    from postroom.messages import Message
    from postroom.plugin.confirmation import Confirm

_log = logging.getLogger("postroom.delivery")

Answer = Accepted | PostroomError
"""What came of one message: what the provider accepted, or the error, given back rather than raised.

An error that a batch shares would be raised once for each of its messages, each time with a longer traceback.
"""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What came of one attempt: who it was for, how long it took (seconds), and the answer or error."""

    recipients: tuple[str, ...]
    started_at: datetime
    duration: float
    answer: Answer


@dataclass(slots=True, eq=False)
class _Waiting:
    """A message that waits for its batch, and then for its answer."""

    message: Message
    future: asyncio.Future[Answer]
    confirm: Confirm | None
    handed_over: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self.future.done()

    @property
    def answered(self) -> bool:
        """Whether its answer has come."""
        return self.future.done() and not self.future.cancelled() and self.future.exception() is None

    async def ask(self) -> None:
        """Ask whether it may still be handed over; after that nobody waits for one that may not."""
        if self.confirm is not None and self.is_wanted:
            try:
                await self.confirm()
            except Exception as error:  # noqa: BLE001 - whoever waits must get it
                self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Give whoever still waits an error to raise."""
        if self.is_wanted:
            self.future.set_exception(error)


class AccountDispatcher:
    """Sends through one open account: never more at once, nor more messages a second, than its settings allow.

    Messages that are on their way at the same time are gathered into one `send_many` where the transport
    takes batches; a message that is cancelled while it waits is never sent. `sender` is the account's own, an
    `Address` for e-mail; `checks` whether the transport has limits of its own to check before a send.
    """

    def __init__(
        self,
        transport: Transport[Any, Any],
        middleware: SendMiddleware | None = None,
        transforms: Transforms | None = None,
    ) -> None:
        settings = transport.settings
        self.transport = transport
        self.settings = settings
        self.capabilities = transport.capabilities
        self.sender = sender_of(transport.account, transport.channel, settings.from_)
        self.checks = type(transport).validate is not Transport.validate
        self._middleware = middleware or None
        self.transforms = transforms if transforms and transforms.messages else None
        self._in_progress = 0
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._rate_limiter = RateLimiter(settings.rate_per_second) if settings.rate_per_second else None
        self._batch_size = _batch_size(transport)
        self._waiting: deque[_Waiting] = deque()
        self._batches: set[asyncio.Task[None]] = set()
        self._gathering = False
        self._emptied: asyncio.Event | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way through this dispatcher."""
        return not self._in_progress

    async def send(
        self, message: Message, record: Callable[[AttemptResult], None], confirm: Confirm | None = None
    ) -> None:
        """Hand `message` to the provider once, and give what came of it to `record`.

        The answer is what was accepted; a DeliveryError with its outcome; or another PostroomError when nothing was
        sent. A cancelled attempt is recorded too: with its answer when that had come, else as unknown when the message
        may have reached the provider. What `confirm` withdraws is neither sent nor recorded: Withdrawn is raised.
        """
        started_at, clock = datetime.now(UTC), time.perf_counter()
        answer: Answer
        self._in_progress += 1
        try:
            if self._batch_size > 1:
                answer = await self._send_batched(message, confirm)
            else:
                async with self._slots:
                    if self._rate_limiter:
                        await self._rate_limiter.acquire()
                    if confirm is not None:
                        answer = await self._send_confirmed(message, confirm)
                    elif self._middleware is not None:
                        answer = await self._send_through_middleware(message, self._middleware)
                    else:
                        answer = self._checked(await self._with_timeout(self.transport.send, message))
        except PostroomError as error:
            answer = error
        except asyncio.CancelledError as cancelled:
            known = _answer_before(cancelled, message)
            if known is not None:
                record(AttemptResult(message.recipients, started_at, time.perf_counter() - clock, known))
            raise
        finally:
            self._in_progress -= 1
            if self._emptied and not self._in_progress:
                self._emptied.set()
        record(AttemptResult(message.recipients, started_at, time.perf_counter() - clock, answer))

    async def close(self) -> None:
        """Wait for what is in progress, then close the transport; a failure to close is logged, not raised."""
        if self._in_progress:
            self._emptied = asyncio.Event()
            await self._emptied.wait()
        if self._batches:
            await asyncio.wait(self._batches)
        try:
            await self.transport.close()
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            _log.exception("%s: closing failed", self.transport.account)

    async def _send_confirmed(self, message: Message, confirm: Confirm) -> Accepted:
        """Ask whether the message may go out, or have the transport ask; then hand it over."""
        asked_by_transport = confirm if self.transport.confirms else None
        if asked_by_transport is None:
            await confirm()
        if confirmation() is asked_by_transport:
            return await self._send_now(message)
        with confirming(asked_by_transport):
            return await self._send_now(message)

    async def _send_now(self, message: Message) -> Accepted:
        if self._middleware is not None:
            return await self._send_through_middleware(message, self._middleware)
        return self._checked(await self._with_timeout(self.transport.send, message))

    async def _send_through_middleware(self, message: Message, middleware: SendMiddleware) -> Accepted:
        entered = await middleware.enter(message, self.transport.account)
        try:
            answer = self._checked(await self._with_timeout(self.transport.send, message))
        except BaseException as error:
            await middleware.leave(entered, error)
            raise
        await middleware.leave(entered, answer)
        return answer

    async def _with_timeout(self, send: Callable[[Any], Awaitable[object]], what: object) -> object:
        """Await a plugin's answer; whatever it raises that is not ours leaves the outcome unknown."""
        started = ends_at.set(asyncio.get_running_loop().time() + self.settings.timeout)
        try:
            if self.transport.keeps_timeout:
                return await send(what)
            async with asyncio.timeout(self.settings.timeout):
                return await send(what)
        except (PostroomError, Withdrawn):
            raise
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                if was_handed_over(error) is None:
                    note = f"{self.transport.account}: cancelled while it was handed over; outcome unknown"
                    mark_cancelled(error, note, handed_over=True)
                raise
            raise self._unknown("cancelled its own work") from error
        except TimeoutError as error:
            raise self._unknown(f"gave no answer within {self.settings.timeout:g} s") from error
        except Exception as error:
            raise self._unknown(f"raised {type(error).__name__}, which is a fault in the plugin") from error
        finally:
            ends_at.reset(started)

    def _checked(self, answer: object) -> Accepted:
        if isinstance(answer, Accepted):
            return answer
        raise self._unknown(f"answered {type(answer).__name__} where Accepted was due, a fault in the plugin")

    def _unknown(self, what: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self.transport.account}: {self.settings.provider} {what}; the message may have been sent, so look for "
            "it at the provider before sending it again"
        )

    async def _send_batched(self, message: Message, confirm: Confirm | None) -> Answer:
        """Join the next batch, and wait for this message's answer.

        The batch starts with the loop's next iteration: whatever was ready to send in this one is in it, and a
        message that is alone waits for nobody.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(message, loop.create_future(), confirm)
        self._waiting.append(waiting)
        if not self._gathering:
            self._gathering = True
            loop.call_soon(self._start_batches)
        try:
            return await waiting.future
        except asyncio.CancelledError as cancelled:
            if waiting.answered:
                keep_answer(cancelled, waiting.future.result())
            elif waiting.handed_over:
                note = f"{self.transport.account}: cancelled after it was handed over; outcome unknown"
                mark_cancelled(cancelled, note, handed_over=True)
            raise

    def _start_batches(self) -> None:
        self._gathering = False
        while self._waiting and len(self._batches) < self.settings.concurrency:
            batch = [waiting for waiting in self._next_waiting() if waiting.is_wanted]
            if batch:
                task = asyncio.create_task(self._run_batch(batch))
                self._batches.add(task)
                task.add_done_callback(self._batch_done)

    def _next_waiting(self) -> list[_Waiting]:
        return [self._waiting.popleft() for _ in range(min(self._batch_size, len(self._waiting)))]

    def _batch_done(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._start_batches()

    async def _run_batch(self, batch: list[_Waiting]) -> None:
        if self._rate_limiter:
            await self._rate_limiter.acquire(len(batch))
        await asyncio.gather(*(waiting.ask() for waiting in batch))  # together: one write may serve them all
        batch = [waiting for waiting in batch if waiting.is_wanted]
        if not batch:
            return
        for waiting in batch:
            waiting.handed_over = True
        try:
            answers = await self._send_many([waiting.message for waiting in batch])
        except BaseException as error:  # noqa: BLE001 - whoever waits must get it
            for waiting in batch:
                waiting.fail(error)
            return
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.is_wanted:
                waiting.future.set_result(answer)

    async def _send_many(self, messages: list[Message]) -> Sequence[Answer]:
        """Hand a batch to the provider; one answer for each message, whatever the plugin does."""
        try:
            if self._middleware is not None:
                return await self._send_many_through_middleware(messages, self._middleware)
            return await self._send_together(messages)
        except PostroomError as error:
            return [error] * len(messages)

    async def _send_together(self, messages: list[Message]) -> Sequence[Answer]:
        if len(messages) == 1:
            return [self._checked(await self._with_timeout(self.transport.send, messages[0]))]
        return self._one_each(await self._with_timeout(self.transport.send_many, messages), len(messages))

    async def _send_many_through_middleware(self, messages: list[Message], middleware: SendMiddleware) -> list[Answer]:
        """Send together what the middleware lets pass; each message's contexts see that message's error."""
        entered = [await self._enter(message, middleware) for message in messages]
        passed = [message for message, contexts in zip(messages, entered, strict=True) if isinstance(contexts, list)]
        answers = iter(await self._caught(passed))
        found: list[Answer | BaseException] = []
        for contexts in entered:
            found.append(next(answers) if isinstance(contexts, list) else contexts)
            if isinstance(contexts, list):
                await middleware.leave(contexts, found[-1])
        return _raised(found)

    async def _caught(self, messages: list[Message]) -> Iterable[Answer | BaseException]:
        """Send together; an error of all is each one's answer, since every context must be left with it."""
        if not messages:
            return ()
        try:
            return await self._send_together(messages)
        except BaseException as error:  # noqa: BLE001 - it is raised again once every context was left
            return [error] * len(messages)

    async def _enter(self, message: Message, middleware: SendMiddleware) -> Entered | PostroomError:
        try:
            return await middleware.enter(message, self.transport.account)
        except PostroomError as veto:
            return veto

    def _one_each(self, found: object, expected: int) -> list[Answer]:
        if isinstance(found, list) and len(found) == expected:
            fitting = (Accepted, DeliveryError)
            return [a if isinstance(a, fitting) else self._unknown("answered neither yes nor no") for a in found]
        raise self._unknown("did not answer once per message of the batch, a fault in the plugin")


def early_fault(account: str, provider: str, error: BaseException, what: str) -> ContractViolation:
    """Return the error for whatever else a plugin raises before anything is sent, when it `what`."""
    return ContractViolation(
        f"{account}: {provider} raised {type(error).__name__} when it {what}, which is a fault in the plugin; nothing "
        "was sent"
    )


def sender_of(account: str, channel: Channel, given: str | None) -> Address | str | None:
    """Return an account's `from` as its channel takes it; raises ConfigError for what is no e-mail address."""
    if given is None or channel is Channel.SMS:
        return given
    try:
        return _address(given)
    except ValueError as error:
        raise ConfigError(f"{given!r} is not an e-mail address", path=f"accounts.{account}.from") from error


@lru_cache(256)
def _address(given: str) -> Address:
    return Address.model_validate(given)


def _raised(found: list[Answer | BaseException]) -> list[Answer]:
    """Return the answers; raises what is none, which then stands for the whole batch."""
    for answer in found:
        if not isinstance(answer, (Accepted, PostroomError)):
            raise answer
    return found  # type: ignore[return-value]  # just checked


def _answer_before(cancelled: asyncio.CancelledError, message: Message) -> Answer | None:
    """Return what is known of a cancelled attempt: its answer, or that it may have been sent; None when it was not."""
    answer = kept_answer(cancelled)
    if isinstance(answer, (Accepted, PostroomError)):
        return answer
    if not was_handed_over(cancelled):
        return None
    note = "; ".join(cancelled.__notes__)
    _log.warning("message %s: %s", message.id, note)
    return OutcomeUnknown(f"{note}; look for it at the provider before sending it again", detail=note)


def _batch_size(transport: Transport[Any, Any]) -> int:
    """A batch may not outrun the account's rate: it is at most one second's worth."""
    rate = transport.settings.rate_per_second
    most = transport.capabilities.max_batch
    return most if rate is None else max(1, min(most, int(rate)))
