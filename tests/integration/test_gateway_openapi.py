"""The description of the API: its examples are the page's own, and the service does what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    from tests.integration.conftest import Gateway, ServeGateway


SAMPLES = Path(__file__).parents[1] / "unit" / "gateway" / "samples"

CONFIG = """
[defaults]
email = "box"
sms = "twilio"
[accounts.box]
provider = "memory"
from = "desk@example.org"
[accounts.twilio]
provider = "memory"
from = "+15005550006"
[gateway]
rate_limit = []
"""

COMMUNICATE = ("email", "email/batch", "sms", "sms/batch")


@pytest.fixture(scope="module")
def gateway(serve_gateway: ServeGateway) -> Gateway:
    return serve_gateway(CONFIG)


@pytest.fixture(scope="module")
def document(gateway: Gateway) -> dict[str, Any]:
    described: dict[str, Any] = gateway.get("/openapi.json", key=None).json
    return described


def example(document: dict[str, Any], path: str) -> Any:
    body = document["paths"][f"/v1/communicate/{path}"]["post"]["requestBody"]
    return body["content"]["application/json"]["example"]


def test_the_docs_page_shows_every_operation_from_the_package_alone(gateway: Gateway, document: dict[str, Any]) -> None:
    page = gateway.get("/docs", key=None)
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    text = page.body.decode()
    for path, methods in document["paths"].items():
        for method in methods:
            assert f'data-method="{method.upper()}" data-path="{path}"' in text
    loaded = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert loaded == ["docs/page.css", "docs/page.js", "openapi.json"]
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
        file = gateway.get(f"/docs/{name}", key=None)
        assert (file.status, file.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        assert b"http" not in file.body
    assert gateway.get("/docs/..%2fopenapi.py", key=None).status == 404


def test_nothing_but_the_pages_own_files_may_run_or_load_on_it(gateway: Gateway) -> None:
    page = gateway.get("/docs", key=None)
    policy = page.headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    text = page.body.decode()
    assert re.findall(r"<script[^>]*>([^<]*)</script>", text) == [""]
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)


def test_the_examples_are_the_samples_of_the_apis_page(document: dict[str, Any]) -> None:
    names = "email.json", "email_batch.json", "sms.txt", "sms_batch.txt"
    blocks = [(SAMPLES / name).read_text() for name in names]
    meant = [json.loads(re.sub(r"//.*", "", block).replace("'", '"')) for block in blocks]
    assert [example(document, path) for path in COMMUNICATE] == meant


@pytest.mark.parametrize("path", COMMUNICATE)
def test_an_example_fits_its_own_schema_and_gets_the_answer_that_is_described(
    gateway: Gateway, document: dict[str, Any], path: str
) -> None:
    operation = document["paths"][f"/v1/communicate/{path}"]["post"]
    body = json.loads(json.dumps(example(document, path)).replace("+123456789", "+447700900123")
                      .replace("+987654321", "+447700900124"))  # fmt: skip
    body.pop("options", None)
    for item in body.get("sms", ()):
        item.pop("options")

    def errors(where: Any, value: Any) -> list[Any]:
        schema = where["content"]["application/json"]["schema"]
        return list(Draft202012Validator({**schema, "components": document["components"]}).iter_errors(value))

    assert errors(operation["requestBody"], body) == []
    reply = gateway.post(f"/v1/communicate/{path}", body)
    assert reply.status == 202, reply.body
    assert errors(operation["responses"]["202"], reply.json) == []
    reply = gateway.post(f"/v1/communicate/{path}", {})
    assert errors(operation["responses"]["400"], reply.json) == []


def test_every_way_to_present_a_key_is_described(document: dict[str, Any]) -> None:
    assert set(document["components"]["securitySchemes"]) == {"header", "bearer", "query", "cookie"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert bool(operation["security"]) == (
                path.startswith(("/v1/messages", "/v1/suppressions")) or "/communicate/" in path
            )


@pytest.mark.parametrize(
    "key",
    ["a", "a b", '"a b"', "a" * 200, "a" * 201, f'"{"a" * 200}"', f'"{"a" * 201}"', '""', '"', '"a', 'a"', '" "', '"""', "é", "a\tb"],
)  # fmt: skip
def test_an_idempotency_key_is_taken_exactly_where_the_description_allows_it(
    gateway: Gateway, document: dict[str, Any], key: str
) -> None:
    parameters = document["paths"]["/v1/communicate/email"]["post"]["parameters"]
    [schema] = [each["schema"] for each in parameters if each["name"] == "Idempotency-Key"]
    fits = Draft202012Validator(schema).is_valid(key)
    headers = {"Idempotency-Key": key.encode("latin-1")}
    reply = gateway.post("/v1/communicate/email", example(document, "email"), headers=headers)
    assert (reply.status, reply.json.get("error")) == ((202, None) if fits else (400, "invalid_idempotency_key"))


SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
LEFT_OUT = {
    "positive_data_acceptance": "what fits the schema may be refused: it cannot say that an idempotency key was used for "
    "another message, that an SMS holds a body or media, or how objects are written as a form",
}
"""Checks that are not made, and why; all others are, those of versions to come among them."""

BATCHES_STAND_ALONE = """
[[operations]]
include-path-regex = "/batch$"
checks.negative_data_rejection.enabled = false
"""
"""A batch is taken where one of its messages fits, whatever the others are: that one answers for itself."""


@pytest.mark.timeout(600)
def test_no_request_that_can_be_thought_up_breaks_it_or_gets_an_answer_that_is_not_described(
    gateway: Gateway, tmp_path: Path
) -> None:
    (tmp_path / "schemathesis.toml").write_text(BATCHES_STAND_ALONE)
    done = subprocess.run(
        [SCHEMATHESIS, "run", f"http://127.0.0.1:{gateway.port}/openapi.json", "-H", f"Auth-token: {gateway.key}",
         "--checks", "all", "--exclude-checks", ",".join(LEFT_OUT), "--max-examples", "7", "--continue-on-failure",
         "--no-color"],
        cwd=tmp_path, capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert "Traceback" not in gateway.log
