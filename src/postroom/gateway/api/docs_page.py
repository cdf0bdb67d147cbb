"""The page that shows the API's description: our own, from the package, without a script or a style inside it."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
}
"""Nothing but our two files runs or is loaded, and nobody shows the page inside another one."""

FILES: Final = {"page.css": "text/css", "page.js": "text/javascript"}

Operation = tuple[str, str, "Mapping[str, Any]"]


def file_of_page(name: str) -> bytes:
    """Return one of FILES."""
    return (files(__package__) / "page" / name).read_bytes()


def docs_page(document: Mapping[str, Any]) -> str:
    """Return an OpenAPI document as HTML: each operation with its parameters, its answers, and a form to try it."""
    operations: list[Operation] = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    info = document["info"]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f'<title>{escape(info["title"])}</title><link rel="stylesheet" href="docs/page.css">',
        '<script src="docs/page.js" defer></script>',
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        *(f"<p>{_code(text)}</p>" for text in info["description"].split("\n\n")),
        '<p><a href="openapi.json">openapi.json</a></p>',
        '<label>Key <input id="key" type="password" autocomplete="off"></label>',
    ]
    for tag, group in groupby(operations, key=lambda each: each[2]["tags"][0]):
        parts += [f"<h2>{escape(tag)}</h2>", *(_operation(*each) for each in group)]
    schemas = json.dumps(document["components"]["schemas"], indent=1, ensure_ascii=False)
    return "\n".join([*parts, "<h2>Schemas</h2>", f"<pre>{escape(schemas)}</pre></html>"])


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    answers = "".join(
        f"<tr><td>{escape(status)}<td>{_code(answer['description'])}"
        for status, answer in operation["responses"].items()
    )
    form = f'<form data-method="{escape(method)}" data-path="{escape(path)}">{"".join(_fields(operation))}'
    return (
        f'<details><summary><span class="method">{escape(method)}</span> <code>{escape(path)}</code> '
        f"{escape(operation['summary'])}</summary>{form}<button>Send</button>"
        f'<pre class="answer" hidden></pre></form><table>{answers}</table></details>'
    )


def _fields(operation: Mapping[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        name, place = escape(parameter["name"]), escape(parameter["in"])
        about = _code(parameter.get("description") or parameter["schema"].get("description") or "")
        yield f'<label>{name} <input name="{name}" data-in="{place}"> {about}</label>'
    if body := operation.get("requestBody"):
        example = json.dumps(body["content"]["application/json"]["example"], indent=2, ensure_ascii=False)
        yield f"<textarea>{escape(example)}</textarea>"


def _code(text: str) -> str:
    """Escape text, with what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
