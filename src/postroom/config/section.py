"""What the tables of the configuration file share: their base, and how a time is written."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from postroom.notation import read_time


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    found = read_time(value)
    if found is None:
        raise ValueError("write a time like 10s, 5m, 3h or 7d")
    return found


Seconds = Annotated[
    float, BeforeValidator(_seconds), Field(gt=0, le=315_360_000, allow_inf_nan=False, json_schema_extra={"unit": "s"})
]
"""A time: a number of seconds, or text such as `"10s"`, `"5m"`, `"3h"`, `"7d"`."""


class Section(BaseModel):
    """A table of the configuration file: every key is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)
