"""An SMS plugin that imports what it needs for sending as soon as it is loaded."""

from __future__ import annotations

import iniconfig  # noqa: F401 - stands for an SDK
from postroom_right import RightSettings, RightSms

from postroom.plugin import hookimpl


class HeavySettings(RightSettings):
    provider: str = "wrong-heavy"


class HeavySms(RightSms):
    settings_model = HeavySettings


@hookimpl
def postroom_sms_transport() -> type[HeavySms]:
    return HeavySms
