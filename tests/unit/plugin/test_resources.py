"""Resources: one object of each kind for all transports of a Postroom, closed with it."""

from __future__ import annotations

from postroom.plugin import Resources


class Connection:
    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        self.closed = True


async def test_an_object_is_made_once_and_shared() -> None:
    resources = Resources()
    assert resources.shared(Connection) is resources.shared(Connection)
    assert resources.shared(list) is resources.shared(list)


async def test_two_postrooms_share_nothing() -> None:
    assert Resources().shared(Connection) is not Resources().shared(Connection)


async def test_what_can_be_closed_is_closed_and_made_anew_when_asked_for_again() -> None:
    resources = Resources()
    connection = resources.shared(Connection)
    await resources.close()
    assert connection.closed
    assert resources.shared(Connection) is not connection


async def test_what_cannot_be_closed_stays_readable_after_the_close() -> None:
    resources = Resources()
    resources.shared(list).append("kept")  # type: ignore[arg-type]
    await resources.close()
    assert resources.shared(list) == ["kept"]
