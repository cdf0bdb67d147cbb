"""Fields of settings models, under the names a configuration uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from pydantic import SecretStr

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


def setting_names(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the model's fields by the name of their setting (`from`, not `from_`)."""
    return {info.serialization_alias or name: info for name, info in model.model_fields.items()}


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting holds a secret."""
    return SecretStr in (field.annotation, *get_args(field.annotation))
