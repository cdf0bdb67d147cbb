"""The JSON Schema of the configuration file, with the settings of every installed provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticOmit

from postroom.config.model import Config
from postroom.errors import PluginError

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

    from postroom.registry.registry import Registry

REFERENCES = [
    {"type": "object", "properties": {kind: {"type": "string"}}, "required": [kind], "additionalProperties": False}
    for kind in ("env", "file")
]
"""A value may be fetched: `{ env = "NAME" }` or `{ file = "path" }`."""


class _FileSchema(GenerateJsonSchema):
    """Leaves out what only code can give, such as a callable."""

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        del schema, error_info
        raise PydanticOmit


def config_schema(registry: Registry) -> dict[str, Any]:
    """Return the schema (draft 2020-12); providers that cannot be loaded are left out."""
    schema = Config.model_json_schema(schema_generator=_FileSchema)
    definitions = schema.setdefault("$defs", {})
    accounts = []
    for name in registry.names():
        try:
            account = registry.settings_model(name).model_json_schema(
                schema_generator=_FileSchema, ref_template=f"#/$defs/{name}-{{model}}"
            )
        except PluginError:
            continue
        definitions |= {f"{name}-{key}": value for key, value in account.pop("$defs", {}).items()}
        definitions[f"account-{name}"] = _account(name, account)
        accounts.append({"$ref": f"#/$defs/account-{name}"})
    schema["properties"]["accounts"] = {"type": "object", "additionalProperties": {"oneOf": accounts}}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _account(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    properties = {key: {"anyOf": [value, *REFERENCES]} for key, value in schema["properties"].items()}
    required = {*schema.get("required", ()), "provider"}
    return {**schema, "properties": {**properties, "provider": {"const": name}}, "required": sorted(required)}
