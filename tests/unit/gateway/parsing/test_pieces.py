"""Values sent in pieces: they arrive as they were, however large, and nothing is taken in one call that is large."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom import Attachment, Email
from postroom.gateway.parsing.pieces import PIECE, receive, receive_body, send, send_body

sizes = st.sampled_from([0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 7])
texts = st.tuples(st.sampled_from(["x", "é", "語", "\U0001f600", "\ud800"]), sizes).map(lambda of: of[0] * of[1])
contents = st.tuples(st.binary(min_size=1, max_size=3), sizes).map(lambda of: (of[0] * of[1])[: of[1]])
values = st.recursive(
    texts | contents | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


class _Connection:
    """A real pipe, and what was sent through it in one call."""

    def __init__(self) -> None:
        self.mine, self._theirs = multiprocessing.Pipe()
        self.largest = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.mine.close()
        self._theirs.close()

    def send(self, value: object) -> None:
        self._theirs.send(value)

    def send_bytes(self, content: bytes) -> None:
        self.largest = max(self.largest, len(content))
        self._theirs.send_bytes(content)

    def passed(self, sending: Any, receiving: Any, value: object) -> Any:
        with ThreadPoolExecutor(1) as other:
            sent = other.submit(sending, self, value)
            received = receiving(self.mine)
            sent.result()
        return received


@given(values)
def test_a_value_arrives_as_it_was(value: object) -> None:
    with _Connection() as connection:
        assert connection.passed(send, receive, value) == value


def test_no_large_text_or_content_is_sent_in_one_call() -> None:
    email = Email(
        to="ann@example.org",
        html="<p>" + "é" * 3_000_000,
        attachments=[Attachment(filename="plan.bin", content=b"x" * 3_000_000)],
    )
    with _Connection() as connection:
        assert connection.passed(send, receive, [email, email]) == [email, email]
        assert connection.largest < 3 * PIECE


@given(st.lists(st.binary(max_size=5), max_size=5))
def test_a_body_arrives_as_one(pieces: list[bytes]) -> None:
    with _Connection() as connection:
        assert connection.passed(send_body, receive_body, pieces) == b"".join(pieces)


def test_what_cannot_be_sent_is_said_before_anything_of_it_is() -> None:
    with _Connection() as connection:
        with pytest.raises((AttributeError, TypeError)):
            send(connection, ["x", lambda: None])  # type: ignore[arg-type]
        assert not connection.mine.poll()
