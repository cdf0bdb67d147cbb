"""Make the vendors' OpenAPI descriptions, as npm packages hold them, fit for a mock that validates requests.

    vendor_contracts.py FOLDER      reads FOLDER/raw/*.json, writes FOLDER/*.json

Requests are held to what the vendors publish; changed are what they answer, and what contradicts itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TWILIO_MESSAGES = "/2010-04-01/Accounts/{AccountSid}/Messages.json"
SMS_SENT = {
    "message-count": "1",
    "messages": [
        {
            "to": "447700900000",
            "message-id": "0A0000000123ABCD1",
            "status": "0",
            "remaining-balance": "3.14159265",
            "message-price": "0.03330000",
            "network": "12345",
        }
    ],
}


def loosen(node: Any) -> None:
    """Let an answer match several schemas: those for success and for errors overlap."""
    if isinstance(node, dict):
        if "oneOf" in node:
            node["anyOf"] = node.pop("oneOf")
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            loosen(value)


def prepared(spec: dict[str, Any], *, prefix: str = "", only: str | None = None) -> dict[str, Any]:
    spec["paths"] = {(prefix + path).rstrip("/"): item for path, item in spec["paths"].items() if only in (None, path)}
    for item in spec["paths"].values():
        for operation in item.values():
            if isinstance(operation, dict):
                loosen(operation.get("responses", {}))
                operation.pop("callbacks", None)
    return spec


def vonage_sms(spec: dict[str, Any]) -> dict[str, Any]:
    """The SDK authenticates with HTTP Basic, and a SHA-256 signature has 64 characters."""
    spec = prepared(spec, prefix="/sms")
    new = spec["components"]["schemas"]["NewMessage"]
    new["required"] = [name for name in new["required"] if name != "api_key"]
    new["properties"]["sig"]["maxLength"] = 128
    content = spec["paths"]["/sms/{format}"]["post"]["responses"]["200"]["content"]
    content.pop("text/xml", None)
    content["application/json"]["example"] = SMS_SENT
    return spec


def vonage_messages(spec: dict[str, Any]) -> dict[str, Any]:
    """Version 1.4.0 requires a property that it defines nowhere."""
    spec = prepared(spec, prefix="/v1/messages")
    for schema in spec["components"]["schemas"].values():
        required = schema.get("required", [])
        if "message" in required and "message" not in schema.get("properties", {}):
            required.remove("message")
    return spec


def main(folder: Path) -> None:
    def raw(name: str) -> dict[str, Any]:
        spec: dict[str, Any] = json.loads((folder / "raw" / name).read_text(encoding="utf-8"))
        return spec

    made = {
        "twilio": prepared(raw("twilio_api_v2010.json"), only=TWILIO_MESSAGES),
        "sendgrid": prepared(raw("sendgrid.com.json"), prefix="/v3", only="/mail/send"),
        "vonage-sms": vonage_sms(raw("sms.json")),
        "vonage-messages": vonage_messages(raw("messages-olympus.json")),
    }
    for name, spec in made.items():
        (folder / f"{name}.json").write_text(json.dumps(spec), encoding="utf-8")


main(Path(sys.argv[1]))
