"""What a worker has begun outlives its process, and of two who decide over a message only one does."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from pathlib import Path

import pytest
from engines.process import MakeOutbox, Process
from hypothesis import given
from hypothesis import strategies as st

from postroom import Email
from postroom.outbox.records import ClaimedMessage, ClaimLimit
from postroom.outbox.sqlite.begun import BegunMarks, marked_workers, path_of_worker, revoke


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return path_of_worker(tmp_path / "outbox.db", 7)


def marks_of(path: Path, claims: int = 1000) -> BegunMarks:
    marks = BegunMarks(path)
    marks.claimed((seq, 1) for seq in range(claims))
    return marks


def test_whoever_takes_over_sees_what_was_begun_and_nothing_is_begun_afterwards(path: Path) -> None:
    marks = marks_of(path)
    assert marks.add([(1, 1), (2, 1)])
    assert revoke(path) == {(1, 1), (2, 1)}
    assert not marks.add([(3, 1)])
    assert revoke(path) == {(1, 1), (2, 1)}


def test_what_is_not_claimed_or_was_claimed_again_since_is_not_begun(path: Path) -> None:
    marks = marks_of(path)
    marks.claimed([(1, 2)])
    assert not marks.add([(1, 1)])
    assert not marks.add([(5000, 1)])
    marks.drop([2])
    assert not marks.add([(2, 1)])
    assert revoke(path) == set()


@given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=60))
def test_the_room_of_settled_messages_is_used_again_and_no_mark_in_use_is_lost(steps: list[tuple[int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_room(Path(folder) / "outbox.db-begun-1", steps)


def check_room(path: Path, steps: list[tuple[int, bool]]) -> None:
    marks = BegunMarks(path)
    model: dict[int, int] = {}
    attempts, most = dict.fromkeys(range(1, 21), 0), 0
    for seq, begins in steps:
        if seq in model:
            marks.drop([seq])
            del model[seq]
        elif begins:
            attempts[seq] += 1
            marks.claimed([(seq, attempts[seq])])
            assert marks.add([(seq, attempts[seq])])
            model[seq] = attempts[seq]
            most = max(most, len(model))
    size = path.stat().st_size
    found = revoke(path)
    marks.remove()
    assert found is not None
    assert found >= set(model.items())
    assert all(attempts[seq] >= attempt for seq, attempt in found)
    assert size == 64 + 16 * most


@pytest.mark.parametrize("_", range(20))
def test_in_a_race_each_message_is_either_seen_as_begun_or_never_begins(path: Path, _: int) -> None:
    marks = marks_of(path, 10_000)
    begun: set[tuple[int, int]] = set()
    started = threading.Event()

    def begin_all() -> None:
        for seq in range(10_000):
            if not marks.add([(seq, 1)]):
                return
            begun.add((seq, 1))
            started.set()

    thread = threading.Thread(target=begin_all)
    thread.start()
    started.wait()
    seen = revoke(path)
    thread.join()
    if seen is not None:  # None: it came in the middle of a mark, so that all count as begun
        assert seen == begun


def test_a_worker_that_froze_in_the_middle_of_a_mark_may_have_begun_anything_and_begins_nothing_more(
    path: Path,
) -> None:
    marks = marks_of(path)
    frozen = os.open(path, os.O_RDWR)
    fcntl.flock(frozen, fcntl.LOCK_EX)
    assert revoke(path) is None
    os.close(frozen)
    assert not marks.add([(1, 1)])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes().replace(path.read_bytes()[16:52], b"0" * 36)),
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        lambda path: path.write_bytes(b""),
    ],
    ids=["no file", "the machine was started anew", "half a mark", "empty"],
)
def test_where_marks_cannot_be_trusted_everything_may_have_been_begun(path: Path, damage: object) -> None:
    marks = marks_of(path)
    marks.add([(1, 1)])
    assert callable(damage)
    damage(path)
    assert revoke(path) is None


def test_where_no_marks_can_be_kept_work_goes_on_and_everything_counts_as_begun(tmp_path: Path) -> None:
    path = path_of_worker(tmp_path / "no folder" / "outbox.db", 1)
    assert marks_of(path).add([(1, 1)])
    assert revoke(path) is None


def email() -> Email:
    return Email(to="ann@example.org", text="x")


async def claimed(post: Process, worker: int, count: int) -> list[ClaimedMessage]:
    got = await post.store.exchange(worker, [], [], {"a0/email": ClaimLimit(count, 100)})
    return list(got.claimed)


async def test_files_of_marks_go_with_their_workers(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        await post.add(email())
        one, two, dead = [await post.store.register("w") for _ in range(3)]
        assert set(marked_workers(post.store.path)) == {one, two, dead}
        await claimed(post, dead, 1)
        await post.store.sign_off(one)
        await post.store.rescue(dead, 0, two)
        assert set(marked_workers(post.store.path)) == {two}
        path_of_worker(post.store.path, 99).touch()  # left by one that was killed between its last two steps
        await post.store.register("w")
        assert 99 not in set(marked_workers(post.store.path))


async def test_a_worker_that_is_given_up_again_and_again_keeps_no_file_open(make_outbox: MakeOutbox) -> None:
    def open_files() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    async with make_outbox() as post:
        heir = await post.store.register("w")
        given_up = await post.store.register("w")
        before = open_files()
        for _ in range(20):
            await post.store.rescue(given_up, 0, heir)
            given_up = await post.store.register("w")
        assert open_files() == before
        assert not await post.store.begin(given_up - 1, 1, 1)


async def test_to_begin_costs_no_transaction(make_outbox: MakeOutbox) -> None:
    async with make_outbox() as post:
        for _ in range(50):
            await post.add(email())
        worker = await post.store.register("w")
        messages = await claimed(post, worker, 50)
        before = post.store.transactions
        assert all([await post.store.begin(worker, each.seq, each.attempts) for each in messages])
        assert post.store.transactions == before
