"""`SyncPostroom`: the same room for threads, running loops, forks, and programs that forget to close."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Never

import pytest
from tests.unit.delivery.results import receipt_of, receipts_of
from tests.unit.delivery.sending import sms

from postroom import (
    Email,
    Event,
    MessageRejected,
    OutboxError,
    Postroom,
    PostroomClosed,
    PostroomError,
    Receipt,
    Status,
    SyncPostroom,
)
from postroom.delivery.bulk import Result
from postroom.outbox import MessageFilter, Outbox
from postroom.plugin import CheckReport
from postroom.receipts import Accepted
from postroom.sync_client import SyncOutbox

MEMORY = {"m": {"provider": "memory", "from": "post@example.org"}}


def room_of(stage: ModuleType, script: Any, **settings: Any) -> SyncPostroom:
    return SyncPostroom(accounts={"a": stage.StageSettings(script=script, **settings)})


def test_sends_without_a_loop() -> None:
    with SyncPostroom(accounts=MEMORY) as room:
        receipt = room.send(Email(to="b@example.org", text="hello"))
        results = receipts_of(room.send_many([sms("1"), sms("2")]))
        assert receipt.status is Status.SENT
        assert [result.status for result in results] == [Status.SENT] * 2
        assert len(room.memory) == 3
        assert [target.name for target in room.targets(sms())] == ["m"]
        assert {name: isinstance(report, CheckReport) and report.ok for name, report in room.check().items()} == {
            "m (email)": True,
            "m (sms)": True,
        }
        room.validate()
        assert room.config.accounts == MEMORY


async def test_sends_inside_a_running_loop() -> None:
    with SyncPostroom(accounts=MEMORY) as room:
        assert room.send(sms()).status is Status.SENT
        assert (await asyncio.to_thread(room.send, sms())).status is Status.SENT


def test_raises_what_the_room_raises(stage: ModuleType) -> None:
    async def act(_: object) -> Never:
        raise MessageRejected("no", provider_code="9")

    with room_of(stage, stage.Script(act)) as room, pytest.raises(MessageRejected) as caught:
        room.send(sms())
    assert receipt_of(caught.value).status is Status.FAILED


def test_twenty_threads_at_once(stage: ModuleType) -> None:
    script = stage.Script()
    with room_of(stage, script) as room, ThreadPoolExecutor(20) as pool:
        receipts = list(pool.map(lambda n: room.send(sms(str(n))), range(400)))
    assert len({receipt.id for receipt in receipts}) == 400
    assert len(script.messages) == 400
    assert script.opened == script.closed == 1


def test_after_close_sends_nothing_and_close_again_is_harmless(stage: ModuleType) -> None:
    script = stage.Script()
    room = room_of(stage, script)
    room.close()
    room.close()
    for use in (lambda: room.send(sms()), lambda: room.send_many([sms()]), room.check):
        with pytest.raises(PostroomClosed, match="is closed; make a new one"):
            use()
    assert script.calls == []


def test_closing_lets_the_calls_under_way_end(stage: ModuleType) -> None:
    entered, leave = threading.Event(), threading.Event()

    async def act(_: object) -> Accepted:
        entered.set()
        await asyncio.to_thread(leave.wait)
        return Accepted()

    room = room_of(stage, stage.Script(act))
    with ThreadPoolExecutor(3) as pool:
        sending = pool.submit(room.send, sms())
        assert entered.wait(60)
        closing = [pool.submit(room.close), pool.submit(room.close)]
        leave.set()
        assert sending.result(60).status is Status.SENT
        for close in closing:
            close.result(60)


def test_threads_that_send_while_another_closes_all_get_an_answer(stage: ModuleType) -> None:
    for _ in range(20):
        room = room_of(stage, stage.Script(), rate="10000/s")
        start = threading.Barrier(9)

        def send(room: SyncPostroom = room, start: threading.Barrier = start) -> list[Result] | PostroomError:
            start.wait(60)
            try:
                return room.send_many([sms(), sms()])
            except PostroomError as error:
                return error

        with ThreadPoolExecutor(9) as pool:
            answers = [pool.submit(send) for _ in range(8)]
            start.wait(60)
            room.close()
            for answer in answers:
                found = answer.result(60)
                assert isinstance(found, PostroomError) or len(found) == 2


def test_progress_is_called_and_may_not_call_back(stage: ModuleType) -> None:
    with room_of(stage, stage.Script()) as room:
        seen: dict[int, Result] = {}
        results = room.send_many([sms(), sms()], progress=seen.__setitem__)
        assert [seen[0], seen[1]] == receipts_of(results)
        call_backs: list[Callable[..., Any]] = [lambda *_: room.send(sms()), lambda *_: room.close()]
        for call_back in call_backs:
            with pytest.raises(PostroomError, match="its own callbacks"):
                room.send_many([sms()], progress=call_back)
        assert room.send(sms()).status is Status.SENT


def test_has_the_same_surface_as_the_room() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Postroom) - public(SyncPostroom) == set()
    assert public(SyncPostroom) - public(Postroom) <= {"config"}


def test_its_outbox_has_the_same_surface_as_the_rooms_but_for_what_the_room_does_itself() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    rooms_own = {
        "add",
        "enqueue",
        "insertion",
        "order",
        "record_all",
        "send",
        "suppress_refused",
        "used_keys",
        "work",
        "close",
    }
    assert public(Outbox) - public(SyncOutbox) == rooms_own
    assert public(SyncOutbox) - public(Outbox) == set()
    for name in public(SyncOutbox):
        assert parameters(getattr(SyncOutbox, name)) == parameters(getattr(Outbox, name))


@pytest.mark.parametrize("name", ["__init__", "enqueue", "enqueue_many", "work", "send", "send_many", "send_each"])
def test_its_methods_take_what_the_rooms_take(name: str) -> None:
    assert parameters(getattr(SyncPostroom, name)) == parameters(getattr(Postroom, name))


def parameters(method: Callable[..., Any]) -> set[tuple[str, Any, Any]]:
    return {(name, it.default, it.kind) for name, it in inspect.signature(method).parameters.items()}


def in_outbox(tmp_path: Path) -> dict[str, Any]:
    return {"accounts": MEMORY, "outbox": {"url": f"sqlite:///{tmp_path}/outbox.db"}}


def test_what_is_enqueued_is_delivered_by_work(tmp_path: Path) -> None:
    with SyncPostroom(**in_outbox(tmp_path)) as room:
        one = room.enqueue(sms())
        two, wrong = room.enqueue_many([sms("2"), sms(provider="nobody")])
        assert isinstance(two, Receipt)
        assert (one.status, two.status) == (Status.QUEUED, Status.QUEUED)
        assert isinstance(wrong, PostroomError)
        assert room.memory == []
        room.work(until_empty=True)
        assert room.outbox.get(one.id).receipt.status is Status.SENT
        assert [line.status for line in room.outbox.list()] == [Status.SENT] * 2
        assert room.outbox.stats().states == {Status.SENT: 2}
        assert len(room.memory) == 2


def test_its_outbox_does_what_a_person_decides(tmp_path: Path) -> None:
    with SyncPostroom(**in_outbox(tmp_path)) as room:
        ids = [room.enqueue(sms()).id for _ in range(2)]
        assert room.outbox.hold(ids[0]).status is Status.HELD
        assert room.outbox.cancel(ids[1]).status is Status.CANCELLED
        assert room.outbox.retry(ids[0]).status is Status.QUEUED
        with pytest.raises(OutboxError, match="cannot resolve a message that is queued"):
            room.outbox.resolve(ids[0], "sent")
        assert room.outbox.resume("m") is False
        assert room.outbox.purge(MessageFilter(status=(Status.CANCELLED,))) == 1
        [left] = room.outbox.list(MessageFilter(account="m"))
        assert left.id == ids[0]


def test_its_outbox_keeps_what_a_provider_reports(tmp_path: Path) -> None:
    with SyncPostroom(**in_outbox(tmp_path)) as room:
        sent = room.send(sms(required=True))
        report = Event(
            type="delivered", channel="sms", provider="memory", occurred_at=datetime.now(UTC), message_id=sent.id
        )
        moved = room.outbox.record(report)
        assert moved
        assert moved.status is Status.DELIVERED
        assert room.outbox.record(report) is None


@pytest.mark.parametrize("ending", ["stop", "close"])
def test_a_worker_ends_when_it_is_stopped_and_what_is_under_way_ends_first(
    stage: ModuleType, tmp_path: Path, ending: str
) -> None:
    entered, leave, stop = threading.Event(), threading.Event(), threading.Event()

    async def act(_: object) -> Accepted:
        entered.set()
        await asyncio.to_thread(leave.wait)
        return Accepted()

    outbox = {"url": f"sqlite:///{tmp_path}/outbox.db"}
    room = SyncPostroom(accounts={"a": stage.StageSettings(script=stage.Script(act))}, outbox=outbox)
    with ThreadPoolExecutor(2) as pool:
        sent = room.enqueue(sms())
        working = pool.submit(room.work, stop=stop)
        assert entered.wait(60)
        if ending == "stop":
            stop.set()
        else:
            closing = pool.submit(room.close)
        leave.set()
        working.result(60)
        if ending == "close":
            closing.result(60)
    room.close()
    with SyncPostroom(accounts=MEMORY, outbox=outbox) as later:
        assert later.outbox.get(sent.id).receipt.status is Status.SENT


def test_ctrl_c_ends_a_worker_once_what_is_under_way_has_ended(site: Any) -> None:
    printed = site.python(
        """
        import json, os, signal, threading, time
        from postroom import Sms, SyncPostroom
        def interrupt():
            while room.outbox.get(sent.id).receipt.status != "sent":
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
        with SyncPostroom(accounts={"m": {"provider": "memory"}}) as room:
            sent = room.enqueue(Sms(to="+442079460958", body="hello"))
            threading.Thread(target=interrupt).start()
            try:
                room.work()
            except KeyboardInterrupt:
                print(json.dumps([room.outbox.stats().workers, len(room.memory)]))
        """
    )
    assert printed == [0, 1]


def test_twenty_threads_enqueue_at_once_into_one_outbox(tmp_path: Path) -> None:
    with SyncPostroom(**in_outbox(tmp_path)) as room, ThreadPoolExecutor(20) as pool:
        receipts = list(pool.map(lambda n: room.enqueue(sms(str(n))), range(200)))
        assert len({receipt.id for receipt in receipts}) == 200
        assert room.outbox.stats().states == {Status.QUEUED: 200}


def test_from_urls_and_from_config(bare_surroundings: Path) -> None:
    with SyncPostroom.from_urls(sms="memory://") as room:
        assert room.send(sms()).account == "sms-url"
    (bare_surroundings / "postroom.toml").write_text('[accounts.m]\nprovider = "memory"\n')
    with SyncPostroom.from_config() as room:
        assert room.send(sms()).account == "m"


def test_a_wrong_configuration_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with pytest.raises(PostroomError):
        SyncPostroom(accounts={"m": {}})
    assert threading.active_count() == before


FORKED = """
    import json, os
    from postroom import PostroomError, Sms, SyncPostroom
    message = Sms(to="+442079460958", body="hello")
    room = SyncPostroom(accounts={"m": {"provider": "memory"}})
    room.send(message)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            room.send(message)
            said = "sent"
        except PostroomError as error:
            said = str(error)
        room.close()
        with SyncPostroom(accounts={"m": {"provider": "memory"}}) as own:
            said += f"; own {own.send(message).status}"
        os.write(writing, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(reading, 1000).decode()
    status = room.send(message).status
    room.close()
    print(json.dumps([said, status]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_gets_a_clear_error_and_cannot_hurt_its_parent(site: Any) -> None:
    said, status = site.python(FORKED, warnings="default")
    assert "before a fork; make one in each process" in said
    assert said.endswith("own sent")
    assert status == "sent"


def test_a_closed_room_leaves_nothing_behind(site: Any) -> None:
    printed = site.python(
        """
        import gc, json, threading, weakref
        from postroom import Email, SyncPostroom
        def use():
            with SyncPostroom(accounts={"f": {"provider": "memory", "from": "a@example.org"}}) as room:
                room.send(Email(to="b@example.org", text="hello"))
            return weakref.ref(room)
        gone = use()
        gc.collect()
        print(json.dumps([gone() is None, threading.active_count()]))
        """
    )
    assert printed == [True, 1]


def test_a_forgotten_room_does_not_keep_the_program_from_ending(site: Any) -> None:
    printed = site.python(
        """
        import json
        from postroom import Sms, SyncPostroom
        room = SyncPostroom(accounts={"m": {"provider": "memory"}})
        print(json.dumps(room.send(Sms(to="+442079460958", body="hello")).status))
        """,
        warnings="default",
    )
    assert printed == "sent"
