"""The gateway's page is held to the gateway."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from postroom.client import Postroom
from postroom.config.gateway import GatewaySettings
from postroom.gateway.app import open_gateway
from postroom.gateway.parsing.attachments import ENCODINGS
from postroom.gateway.parsing.email import DENIED_HEADERS, DENIED_PREFIXES
from postroom.gateway.serving.server import configured

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "gateway.md").read_text()


def rows(heading: str) -> list[list[str]]:
    text = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]


def test_every_setting_is_listed_with_its_default_and_no_other() -> None:
    listed = {row[0].strip("`"): row[1] for row in rows("`[gateway]`")}
    assert listed.keys() == GatewaySettings.model_fields.keys()
    values = GatewaySettings().model_dump(mode="json")
    for name, told in listed.items():
        value = values[name][0] if isinstance(values[name], list) and values[name] else values[name]
        said = f'`"{value}"`' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
        assert told == ("none" if value in (None, [], {}) else said), name


async def test_every_endpoint_is_listed_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_gateway(Postroom(accounts={"box": {"provider": "memory"}}), work=False) as gateway:
        there = {f"{route.method} {route.path}" for route in gateway.routes}
        assert {row[0].strip("`") for row in rows("Endpoints")} == there
        assert configured(gateway).ws == "none"


def test_every_header_that_is_refused_and_every_encoding_is_listed() -> None:
    told = set(re.findall(r"`([A-Za-z-]+)`", PAGE.split("Headers that are refused")[1].split("\n## ")[0]))
    assert {name.lower() for name in told} == DENIED_HEADERS | set(DENIED_PREFIXES)
    encodings = set(re.findall(r"`([a-z0-9]+)`", PAGE.split("how it is packed:")[1].split(". A Node")[0]))
    assert encodings <= set(ENCODINGS)
    assert {name.replace("-", "") for name in ENCODINGS} - encodings == {"ucs2"}


def test_every_code_that_the_gateway_answers_with_is_listed() -> None:
    told = set(re.findall(r"`([a-z_]+)`", PAGE.split("\n## Errors\n")[1].split("\n## ")[0]))
    sources = (Path(__file__).parents[2] / "src" / "postroom" / "gateway").rglob("*.py")
    text = "\n".join(path.read_text() for path in sources)
    raised = set(re.findall(r'(?:ApiError\(\s*\d{3},\s*|bad_request\()"([a-z_]+)"', text))
    assert raised
    assert raised <= told, raised - told
