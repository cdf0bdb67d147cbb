"""Bodies: what came of one is kept in few pieces, however little came at a time."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from postroom.config.gateway import GatewaySettings
from postroom.gateway.http.body import BodyReader
from postroom.gateway.http.requests import RequestState


def request(pieces: list[bytes]) -> Request:
    coming = enumerate(pieces, start=1)

    async def receive() -> dict[str, object]:
        number, piece = next(coming)
        return {"type": "http.request", "body": piece, "more_body": number < len(pieces)}

    scope: dict[str, object] = {"type": "http", "method": "POST", "headers": []}
    RequestState("req_1").attach(scope)
    return Request(scope, receive)


@pytest.mark.parametrize("size", [1, 1000, 65_535, 65_536, 200_000])
async def test_a_body_is_kept_in_pieces_of_which_none_but_the_last_is_small(size: int) -> None:
    whole = bytes(range(256)) * 1200
    came = [whole[at : at + size] for at in range(0, len(whole), size)]
    kept, _ = await BodyReader(GatewaySettings()).message_body(request(came))
    assert b"".join(kept) == whole
    assert all(len(piece) >= 65_536 for piece in kept[:-1])
