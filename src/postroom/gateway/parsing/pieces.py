"""Values sent between processes in pieces: no call for a large one keeps the other threads of a process waiting.

Python's pickle takes a text of 25 MB in one call, 15 to 30 ms in which no other thread runs. Here large texts and bytes
go beside what holds them, 256 KiB at a time, and the members of a list one by one.
"""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

from postroom.large_work import large_work_lock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

PIECE = 262_144
"""Characters of a text, or bytes, in one piece; what is longer is sent in several."""


def send(connection: Connection, value: object) -> None:
    """Send a value that `receive` returns at the other end. Raises what pickle does, before anything is sent of it."""
    members = value if type(value) is list else [value]
    packed = [_Packed(member) for member in members]
    connection.send((type(value) is list, len(packed)))
    for each in packed:
        each.send(connection)


def receive(connection: Connection) -> Any:
    """Return the next value. Raises EOFError when the other end is closed."""
    is_list, count = connection.recv()
    members = [_receive_one(connection) for _ in range(count)]
    return members if is_list else members[0]


def send_body(connection: Connection, body: Sequence[bytes]) -> None:
    """Send bytes in the pieces they are in; `receive_body` returns them as one."""
    connection.send(len(body))
    for piece in body:
        connection.send_bytes(piece)


def receive_body(connection: Connection) -> bytes:
    """Return what `send_body` sent."""
    return b"".join([connection.recv_bytes() for _ in range(connection.recv())])


class _Packed(pickle.Pickler):
    """A value that is pickled, and the large texts and bytes in it that are not."""

    def __init__(self, value: object) -> None:
        self._buffer = io.BytesIO()
        self._large: list[str | bytes] = []
        super().__init__(self._buffer, pickle.HIGHEST_PROTOCOL)
        self.dump(value)

    def persistent_id(self, obj: Any) -> int | None:
        if type(obj) not in {str, bytes} or len(obj) <= PIECE:
            return None
        self._large.append(obj)
        return len(self._large) - 1

    def send(self, connection: Connection) -> None:
        connection.send([(type(each) is str, -(-len(each) // PIECE)) for each in self._large])
        for each in self._large:
            for at in range(0, len(each), PIECE):
                piece = each[at : at + PIECE]
                connection.send_bytes(piece.encode(errors="surrogatepass") if isinstance(piece, str) else piece)
        connection.send_bytes(self._buffer.getbuffer())


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, large: Sequence[str | bytes]) -> None:
        super().__init__(io.BytesIO(content))
        self._large = large

    def persistent_load(self, pid: Any) -> str | bytes:
        found: str | bytes = self._large[pid]
        return found


def _receive_one(connection: Connection) -> Any:
    contents = [(is_text, [connection.recv_bytes() for _ in range(count)]) for is_text, count in connection.recv()]
    packed = connection.recv_bytes()
    with large_work_lock():
        large = [_text(pieces) if is_text else b"".join(pieces) for is_text, pieces in contents]
        return _Unpickler(packed, large).load()


def _text(pieces: Sequence[bytes]) -> str:
    return "".join([piece.decode(errors="surrogatepass") for piece in pieces])
