"""`SyncPostroom`, the blocking client: `Postroom` and its outbox in an event loop of their own, in a thread."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

from postroom.client import Postroom
from postroom.config.masking import masked_account, masked_urls
from postroom.config.urls import config_from_urls
from postroom.delivery.attempt import check_sendable
from postroom.delivery.bulk import MOST_AT_ONCE, receipt_or_raise
from postroom.errors import PostroomClosed, PostroomError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

    from postroom.config.model import Config
    from postroom.delivery.accounts import Target
    from postroom.delivery.bulk import Result
    from postroom.delivery.preview import AccountPreview
    from postroom.errors import Suppressed
    from postroom.events import Event
    from postroom.messages import Email, Message, Sms
    from postroom.outbox.insertion import Insertion
    from postroom.outbox.outbox import Outbox
    from postroom.outbox.views import MessageDetails, MessageFilter, MessageSummary, OutboxStats
    from postroom.plugin.settings import AccountSettings
    from postroom.plugin.transport import CheckReport, WebhookRequest
    from postroom.receipts import Channel, Receipt

R = TypeVar("R")

_POLL_INTERVAL = 0.1
"""Seconds between two looks at whether a worker's thread is to stop."""


class SyncPostroom:
    """`Postroom` with blocking methods, for programs without asyncio, threads and running loops alike.

    Any number of threads may use one. It may be made and used inside a running event loop too, though its
    calls block that loop; prefer `Postroom` there. Close it, or use `with`.
    """

    _loop: asyncio.AbstractEventLoop
    _thread: threading.Thread
    _closing: Future[None] | None

    def __init__(
        self,
        config: Config | None = None,
        *,
        accounts: Mapping[str, AccountSettings | Mapping[str, Any]] | None = None,
        routes: Mapping[str, Mapping[str, Any]] | None = None,
        defaults: Mapping[str, str] | None = None,
        rules: Iterable[Mapping[str, Any]] = (),
        outbox: Mapping[str, Any] | None = None,
    ) -> None:
        accounts = {name: masked_account(account) for name, account in (accounts or {}).items()}
        self._start(Postroom(config, accounts=accounts, routes=routes, defaults=defaults, rules=rules, outbox=outbox))

    @classmethod
    def from_config(cls, path: str | Path | None = None) -> Self:
        """See `Postroom.from_config`."""
        return cls._around(Postroom.from_config(path))

    @classmethod
    def from_urls(cls, *urls: str, email: str | None = None, sms: str | None = None) -> Self:
        """See `Postroom.from_urls`."""
        masked = masked_urls(urls, {"email": email, "sms": sms})
        del urls, email, sms  # no frame of ours keeps a secret in plain text
        return cls._around(Postroom(config_from_urls(*masked)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def config(self) -> Config:
        return self._room.config

    @property
    def memory(self) -> list[Message]:
        """See `Postroom.memory`."""
        return self._room.memory

    @property
    def outbox(self) -> SyncOutbox:
        """See `Postroom.outbox`; its methods block."""
        return SyncOutbox(self._room, self._run)

    def send(self, message: Email | Sms) -> Receipt:
        """See `Postroom.send`."""
        return self._run(self._room.send(message))

    def enqueue(self, message: Email | Sms, *, connection: object = None) -> Receipt:
        """See `Postroom.enqueue`; a `connection` is used in this thread, and is one whose calls block."""
        return receipt_or_raise(self.enqueue_many([check_sendable(message)], connection=connection)[0])

    def enqueue_many(self, messages: Sequence[Email | Sms], *, connection: object = None) -> list[Result]:
        """See `Postroom.enqueue_many`, and `enqueue`."""
        if connection is None:
            return self._run(self._room.enqueue_many(messages))
        return self._run(self._insertion(messages, connection)).run()

    async def _insertion(self, messages: Sequence[Email | Sms], connection: object) -> Insertion[list[Result]]:
        return await self._room.outbox.insertion(messages, connection)

    def check_webhook_head(self, account: str, head: WebhookRequest) -> bool:
        """See `Postroom.check_webhook_head`."""
        return self._run(self._room.check_webhook_head(account, head))

    def receive(self, account: str, request: WebhookRequest) -> list[Event]:
        """See `Postroom.receive`."""
        return self._run(self._room.receive(account, request))

    def work(self, *, stop: threading.Event | None = None, until_empty: bool = False) -> None:
        """Deliver what is in the outbox, until `stop`, `close` or Ctrl-C; see `Postroom.work`.

        What is under way then ends first.
        """
        stopping = stop or threading.Event()
        call = self._begin(self._working(stopping, until_empty=until_empty))
        self._works.add(call)
        call.add_done_callback(self._works.discard)
        try:
            call.result()
        except KeyboardInterrupt:
            stopping.set()
            call.result()
            raise

    def send_many(
        self,
        messages: Iterable[Email | Sms],
        *,
        progress: Callable[[int, Result], None] | None = None,
        at_once: int = MOST_AT_ONCE,
    ) -> list[Result]:
        """See `Postroom.send_many`; `progress` is called in the room's own thread."""
        return self._run(self._room.send_many(messages, progress=progress, at_once=at_once))

    def send_each(
        self, messages: Iterable[Email | Sms], report: Callable[[int, Result], None], *, at_once: int = MOST_AT_ONCE
    ) -> None:
        """See `Postroom.send_each`; `report` is called in the room's own thread."""
        self._run(self._room.send_each(messages, report, at_once=at_once))

    def settings(self, target: Target, channel: Channel) -> AccountSettings:
        """See `Postroom.settings`."""
        return self._room.settings(target, channel)

    def targets(self, message: Email | Sms) -> tuple[Target, ...]:
        """See `Postroom.targets`."""
        return self._room.targets(message)

    def preview(self, message: Email | Sms) -> list[AccountPreview]:
        """See `Postroom.preview`."""
        return self._room.preview(message)

    def validate(self) -> None:
        """See `Postroom.validate`."""
        self._room.validate()

    def check(self, account: str | None = None) -> dict[str, CheckReport | PostroomError]:
        """See `Postroom.check`."""
        return self._run(self._room.check(account))

    def close(self) -> None:
        """Close every account and stop the thread, once the calls under way have ended. Then sending is an error.

        In a process forked from the one that made it, this does nothing: the loop and its sockets are the parent's.
        """
        if self._process != os.getpid():
            return
        if threading.current_thread() is self._thread:
            raise PostroomError("a SyncPostroom cannot be closed from its own callbacks; return first")
        with self._scheduling:
            if not self._closing:
                self._closing = asyncio.run_coroutine_threadsafe(self._finish(), self._loop)
        self._thread.join()
        self._closing.result()

    @classmethod
    def _around(cls, room: Postroom) -> Self:
        self = cls.__new__(cls)
        self._start(room)
        return self

    def _start(self, room: Postroom) -> None:
        self._room = room
        self._process = os.getpid()
        self._scheduling = threading.Lock()
        self._closing = None
        self._calls: set[Future[Any]] = set()
        self._works: set[Future[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="postroom", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()

    async def _finish(self) -> None:
        try:
            if self._works:
                await asyncio.wait([asyncio.wrap_future(work) for work in self._works])
            await self._room.close()
            if self._calls:
                await asyncio.wait([asyncio.wrap_future(call) for call in self._calls])
        finally:
            self._loop.stop()

    async def _working(self, stopping: threading.Event, *, until_empty: bool) -> None:
        stop = asyncio.Event()
        watching = asyncio.create_task(self._pass_on(stopping, stop))
        try:
            await self._room.work(stop=stop, until_empty=until_empty)
        finally:
            watching.cancel()

    async def _pass_on(self, stopping: threading.Event, stop: asyncio.Event) -> None:
        while not (stopping.is_set() or self._closing):  # noqa: ASYNC110 - no loop can wait for a thread's event
            await asyncio.sleep(_POLL_INTERVAL)
        stop.set()

    def _run(self, work: Coroutine[Any, Any, R]) -> R:
        call = self._begin(work)
        try:
            return call.result()
        except BaseException:
            call.cancel()
            raise

    def _begin(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        with self._scheduling:
            problem = self._unusable()
            if problem:
                work.close()
                raise problem
            call = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call

    def _unusable(self) -> PostroomError | None:
        if self._process != os.getpid():
            return PostroomError("this SyncPostroom was made before a fork; make one in each process")
        if self._closing:
            return PostroomClosed("this SyncPostroom is closed; make a new one to send again")
        if threading.current_thread() is self._thread:
            return PostroomError("a SyncPostroom cannot be called from its own callbacks; return first")
        return None


class _Run(Protocol):
    """Runs a coroutine in the client's loop and waits for its answer."""

    def __call__(self, work: Coroutine[Any, Any, R]) -> R: ...


class SyncOutbox:
    """`postroom.outbox.Outbox` with blocking methods; get it from `SyncPostroom.outbox`."""

    def __init__(self, room: Postroom, run: _Run) -> None:
        self._room = room
        self._run = run

    def get(self, message_id: str, *, tenant: str | None = None, contents: bool = True) -> MessageDetails:
        """See `Outbox.get`."""
        return self._ask(lambda outbox: outbox.get(message_id, tenant=tenant, contents=contents))

    def stats(self) -> OutboxStats:
        """See `Outbox.stats`."""
        return self._ask(lambda outbox: outbox.stats())

    def cancel(self, message_id: str, *, tenant: str | None = None) -> Receipt:
        """See `Outbox.cancel`."""
        return self._ask(lambda outbox: outbox.cancel(message_id, tenant=tenant))

    def hold(self, message_id: str, *, tenant: str | None = None) -> Receipt:
        """See `Outbox.hold`."""
        return self._ask(lambda outbox: outbox.hold(message_id, tenant=tenant))

    def retry(self, message_id: str, *, tenant: str | None = None, held_until: float = 0.0) -> Receipt:
        """See `Outbox.retry`."""
        return self._ask(lambda outbox: outbox.retry(message_id, tenant=tenant, held_until=held_until))

    def resolve(
        self,
        message_id: str,
        outcome: Literal["sent", "failed", "retry"],
        *,
        note: str = "",
        tenant: str | None = None,
        held_until: float = 0.0,
    ) -> Receipt:
        """See `Outbox.resolve`."""
        return self._ask(
            lambda outbox: outbox.resolve(message_id, outcome, note=note, tenant=tenant, held_until=held_until)
        )

    def resume(self, account: str) -> bool:
        """See `Outbox.resume`."""
        return self._ask(lambda outbox: outbox.resume(account))

    def purge(self, where: MessageFilter) -> int:
        """See `Outbox.purge`."""
        return self._ask(lambda outbox: outbox.purge(where))

    def migrate(self) -> None:
        """See `Outbox.migrate`."""
        self._ask(lambda outbox: outbox.migrate())

    def compact(self) -> tuple[int, int]:
        """See `Outbox.compact`."""
        return self._ask(lambda outbox: outbox.compact())

    def suppressed(self, message: Message) -> dict[str, Suppressed]:
        """See `Outbox.suppressed`."""
        return self._ask(lambda outbox: outbox.suppressed(message))

    def record(self, event: Event) -> Receipt | None:
        """See `Outbox.record`."""
        return self._ask(lambda outbox: outbox.record(event))

    def list(self, where: MessageFilter | None = None) -> list[MessageSummary]:
        """See `Outbox.list`."""
        return self._ask(lambda outbox: outbox.list(where))

    def _ask(self, question: Callable[[Outbox], Coroutine[Any, Any, R]]) -> R:
        async def asked() -> R:
            return await question(self._room.outbox)

        return self._run(asked())
