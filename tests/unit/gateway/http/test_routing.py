"""Routing: one table answers requests, by a look-up or by a pattern."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from postroom import OutboxError
from postroom.gateway.http.errors import ApiError
from postroom.gateway.http.requests import RequestState
from postroom.gateway.http.responses import JsonResponse
from postroom.gateway.http.routing import Route, Router


async def show(request: Request) -> Response:
    """Show what was asked for.

    More that no summary needs.
    """
    return JsonResponse(200, {"path": request.url.path, **request.path_params})


async def fail(request: Request) -> Response:
    raise ApiError(409, "state_conflict", f"not {request.method}")


async def stand_still(request: Request) -> Response:
    raise OutboxError("outbox.db: database or disk is full; nothing was accepted, make room")


ROUTES = [
    Route(method=method, path=path, endpoint=endpoint, tag="", response="application/json")
    for method, path, endpoint in (
        ("GET", "/things", show),
        ("POST", "/things", fail),
        ("GET", "/things/{id}", show),
        ("POST", "/things/{id}/end", show),
        ("POST", "/full", stand_still),
    )
]


async def answer(method: str, path: str) -> tuple[int, Any, dict[str, str], RequestState]:
    """What the router answers, with the state that is left behind."""
    state, sent = RequestState("id"), []
    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "server": ("x", 80)}
    state.attach(scope)

    async def receive() -> Any:
        raise AssertionError("no endpoint here reads a body")

    async def send(message: Any) -> None:
        sent.append(message)

    await Router(ROUTES)(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], json.loads(sent[1]["body"]), headers, state


@pytest.mark.parametrize(
    ("method", "path", "route", "parameters"),
    [
        ("GET", "/things", "/things", {}),
        ("GET", "/things/a b", "/things/{id}", {"id": "a b"}),
        ("POST", "/things/7/end", "/things/{id}/end", {"id": "7"}),
    ],
)
async def test_a_request_is_answered_by_the_endpoint_of_its_path(
    method: str, path: str, route: str, parameters: dict[str, str]
) -> None:
    status, body, _, state = await answer(method, path)
    assert (status, body.keys() - {"path"}, state.route) == (200, parameters.keys(), route)
    assert {name: body[name] for name in parameters} == parameters


@pytest.mark.parametrize("path", ["/", "/thing", "/things/", "/things/a/b", "/things/7/end/", "/things/7\n/end\n"])
async def test_another_path_is_a_404_under_no_route_of_its_own(path: str) -> None:
    status, body, _, state = await answer("GET", path)
    assert (status, body["error"], state.route, state.error) == (404, "not_found", "other", "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("DELETE", "/things", "GET, POST"), ("HEAD", "/things/7", "GET")]
)
async def test_another_method_is_a_405_that_names_all_the_path_takes(method: str, path: str, allowed: str) -> None:
    status, body, headers, _ = await answer(method, path)
    assert (status, body["error"], headers["allow"]) == (405, "method_not_allowed", allowed)


async def test_an_error_of_an_endpoint_is_its_answer_and_is_kept_for_the_log() -> None:
    status, body, _, state = await answer("POST", "/things")
    assert (status, body, state.error) == (
        409,
        {"error": "state_conflict", "message": "not POST", "details": []},
        "state_conflict",
    )


def test_the_first_line_of_an_endpoints_docstring_is_its_summary() -> None:
    assert [route.summary for route in ROUTES[:2]] == ["Show what was asked for", ""]


async def test_what_the_store_cannot_do_now_is_a_503_that_says_when_to_come_again() -> None:
    status, body, headers, state = await answer("POST", "/full")
    assert (status, headers["retry-after"]) == (503, "5")
    assert body["error"] == state.error == "outbox_error"
    assert "disk is full" in body["message"]
