"""The socket the service listens on."""

from __future__ import annotations

import socket

from postroom.gateway.serving.server import bound


def test_an_answer_in_two_pieces_does_not_wait_for_the_clients_acknowledgement() -> None:
    with bound("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
