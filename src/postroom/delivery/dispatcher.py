"""One message (or batch) to one account: limits, timeout, and which outcome it was."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from postroom.addresses import Address
from postroom.delivery.middleware import Opened, SendMiddleware
from postroom.errors import (
    ConfigError,
    ContractViolation,
    DeliveryError,
    OutcomeUnknown,
    PostroomError,
    UnsupportedFeature,
)
from postroom.receipts import Accepted, Channel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from postroom.messages import Message
    from postroom.plugin.transport import Transport

_log = logging.getLogger("postroom.delivery")

Answer = Accepted | DeliveryError


class AccountDispatcher:
    """The way into one account: never more hand-overs at once, nor more messages a second, than it allows.

    Messages that are on their way at the same time are gathered into one `send_many` where the transport
    takes batches; a message that is cancelled while it waits is never sent.
    """

    def __init__(self, transport: Transport[Any, Any], gates: SendMiddleware | None = None) -> None:
        settings = transport.settings
        self.transport = transport
        self.settings = settings
        self.sender = _sender(transport)
        self._gates = gates or SendMiddleware()
        self._under_way = 0
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._pace = RateLimiter(settings.rate_per_second) if settings.rate_per_second else None
        self._batch = _batch_size(transport)
        self._waiting: deque[tuple[Message, asyncio.Future[Accepted]]] = deque()
        self._batches: set[asyncio.Task[None]] = set()
        self._gathering = False
        self._emptied: asyncio.Event | None = None
        self.asked_for = False

    @property
    def idle(self) -> bool:
        """Whether somebody had this lane, and nothing is on its way through it any more."""
        return self.asked_for and not self._under_way

    def refuse_unsupported(self, message: Message) -> None:
        """Raise UnsupportedFeature or MessageError for what the provider cannot take; nothing was sent."""
        missing = message.features - self.transport.capabilities.features
        if missing:
            self._unsupported(sorted(missing))
        try:
            self.transport.validate(message)
        except PostroomError:
            raise
        except Exception as error:
            raise early_fault(self.transport.account, self.settings.provider, error, "validated the message") from error

    async def deliver(self, message: Message) -> Accepted:
        """Hand `message` over once.

        Raises DeliveryError with the outcome, or another PostroomError when nothing was sent.
        """
        self._under_way += 1
        try:
            if self._batch > 1:
                return await self._gathered(message)
            async with self._slots:
                if self._pace:
                    await self._pace.turn()
                return await self._alone(message)
        finally:
            self._under_way -= 1
            if self._emptied and not self._under_way:
                self._emptied.set()

    async def close(self) -> None:
        """Wait for what is under way, then close the transport; a failure to close is logged, not raised."""
        if self._under_way:
            self._emptied = asyncio.Event()
            await self._emptied.wait()
        if self._batches:
            await asyncio.wait(self._batches)
        try:
            await self.transport.close()
        except Exception:  # noqa: BLE001 - a plugin may raise anything
            _log.exception("%s: closing failed", self.transport.account)

    def _unsupported(self, missing: list[str]) -> None:
        account, provider = self.transport.account, self.settings.provider
        if self.settings.unsupported == "warn":
            _log.warning("%s: %s sends the message without %s", account, provider, ", ".join(missing))
            return
        raise unsupported(account, provider, missing)

    async def _alone(self, message: Message) -> Accepted:
        if self._gates:
            async with self._gates.around(message, self.transport.account):
                return self._proven(await self._in_time(self.transport.send, message))
        return self._proven(await self._in_time(self.transport.send, message))

    async def _in_time(self, hand_over: Callable[[Any], Awaitable[object]], what: object) -> object:
        """Await a plugin's answer; whatever it raises that is not ours leaves the outcome unknown."""
        try:
            if self.transport.keeps_timeout:
                return await hand_over(what)
            async with asyncio.timeout(self.settings.timeout):
                return await hand_over(what)
        except PostroomError:
            raise
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                if not self.transport.keeps_timeout:
                    error.add_note(f"{self.transport.account}: cancelled while it was handed over; outcome unknown")
                raise
            raise self._unknown("cancelled its own work") from error
        except TimeoutError as error:
            raise self._unknown(f"gave no answer within {self.settings.timeout:g} s") from error
        except Exception as error:
            raise self._unknown(f"raised {type(error).__name__}, which is a fault in the plugin") from error

    def _proven(self, answer: object) -> Accepted:
        if isinstance(answer, Accepted):
            return answer
        raise self._unknown(f"answered {type(answer).__name__} where Accepted was due, a fault in the plugin")

    def _unknown(self, what: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self.transport.account}: {self.settings.provider} {what}; the message may have been sent, so look for "
            "it at the provider before sending it again"
        )

    async def _gathered(self, message: Message) -> Accepted:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Accepted] = loop.create_future()
        self._waiting.append((message, future))
        if not self._gathering:
            self._gathering = True
            loop.call_soon(self._start_batches)
        try:
            return await future
        except asyncio.CancelledError as cancelled:
            if not any(waiting is future for _, waiting in self._waiting):
                cancelled.add_note(f"{self.transport.account}: cancelled after it was handed over; outcome unknown")
            raise

    def _start_batches(self) -> None:
        self._gathering = False
        while self._waiting and len(self._batches) < self.settings.concurrency:
            batch = [item for item in self._next_waiting() if not item[1].done()]
            if batch:
                task = asyncio.create_task(self._run_batch(batch))
                self._batches.add(task)
                task.add_done_callback(self._batch_done)

    def _next_waiting(self) -> list[tuple[Message, asyncio.Future[Accepted]]]:
        return [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]

    def _batch_done(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._start_batches()

    async def _run_batch(self, batch: list[tuple[Message, asyncio.Future[Accepted]]]) -> None:
        if self._pace:
            await self._pace.turn(len(batch))
            batch = [item for item in batch if not item[1].done()]
        answers = await self._answers([message for message, future in batch])
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Accepted):
                future.set_result(answer)
            else:
                future.set_exception(answer)

    async def _answers(self, messages: list[Message]) -> list[Accepted | BaseException]:
        """One answer per message, whatever the plugin does."""
        try:
            if len(messages) == 1:
                return [await self._alone(messages[0])]
            if self._gates:
                return await self._through_gates(messages)
            return await self._together(messages)
        except BaseException as error:  # noqa: BLE001 - each waiting caller must get it
            return [error] * len(messages)

    async def _together(self, messages: list[Message]) -> list[Accepted | BaseException]:
        if not messages:
            return []
        return self._one_each(await self._in_time(self.transport.send_many, messages), len(messages))

    async def _through_gates(self, messages: list[Message]) -> list[Accepted | BaseException]:
        """Hand over together what the gates let pass; each message's gates see that message's error."""
        passed = [await self._entered(message) for message in messages]
        open_to = [message for message, gates in zip(messages, passed, strict=True) if isinstance(gates, list)]
        try:
            answers = iter(await self._together(open_to))
        except BaseException as error:  # noqa: BLE001 - the gates must be left, and each caller must get it
            answers = iter([error] * len(open_to))
        found: list[Accepted | BaseException] = []
        for gates in passed:
            found.append(next(answers) if isinstance(gates, list) else gates)
            if isinstance(gates, list):
                await self._gates.leave(gates, None if isinstance(found[-1], Accepted) else found[-1])
        return found

    async def _entered(self, message: Message) -> Opened | PostroomError:
        try:
            return await self._gates.enter(message, self.transport.account)
        except PostroomError as veto:
            return veto

    def _one_each(self, found: object, expected: int) -> list[Accepted | BaseException]:
        if isinstance(found, list) and len(found) == expected:
            return [a if isinstance(a, Answer) else self._unknown("answered neither yes nor no") for a in found]
        raise self._unknown("did not answer once per message of the batch, a fault in the plugin")


class RateLimiter:
    """Spaces messages out to a rate: a burst of at most a twentieth of a second's worth, then evenly.

    A batch starts all its messages at one moment; it waits until the second it falls into has room for them.
    """

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._slack = max(self._interval, 0.05)
        self._due = 0.0
        self._most = per_second * 1.05 + 1
        self._second: deque[tuple[float, int]] = deque()
        self._started = 0

    async def turn(self, messages: int = 1) -> None:
        """Wait until `messages` more may start."""
        now = asyncio.get_running_loop().time()
        start = max(self._due, now - self._slack + self._interval)
        moment = self._room_for(messages, max(start, now))
        start = moment if moment > now else start
        self._due = start + messages * self._interval
        if start > now:
            await asyncio.sleep(start - now)

    def _room_for(self, messages: int, start: float) -> float:
        """Return the first moment from `start` whose second has room for `messages` more, and take it."""
        while self._second and (self._second[0][0] <= start - 1 or self._started + messages > self._most):
            began, count = self._second.popleft()
            self._started -= count
            start = max(start, began + 1)
        self._second.append((start, messages))
        self._started += messages
        return start


def early_fault(account: str, provider: str, error: Exception, what: str) -> ContractViolation:
    """Return the error for whatever else a plugin raises before a hand-over, when it `what`."""
    return ContractViolation(
        f"{account}: {provider} raised {type(error).__name__} when it {what}, which is a fault in the plugin; nothing "
        "was sent"
    )


def unsupported(account: str, provider: str, missing: list[str]) -> UnsupportedFeature:
    """Return the error for a message that asks for what the provider cannot express."""
    return UnsupportedFeature(
        f"{account}: {provider} cannot send {', '.join(missing)}; nothing was sent. Leave it out, choose another "
        'provider, or set unsupported = "warn" on the account to send without it',
        feature=missing[0],
        provider=provider,
    )


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _batch_size(transport: Transport[Any, Any]) -> int:
    """A batch may not outrun the account's rate: it is at most one second's worth."""
    rate = transport.settings.rate_per_second
    most = transport.capabilities.max_batch
    return most if rate is None else max(1, min(most, int(rate)))


def _sender(transport: Transport[Any, Any]) -> Address | str | None:
    given: str | None = transport.settings.from_
    if given is None or transport.channel is Channel.SMS:
        return given
    try:
        return Address.model_validate(given)
    except ValueError as error:
        raise ConfigError(f"{given!r} is not an e-mail address", path=f"accounts.{transport.account}.from") from error
