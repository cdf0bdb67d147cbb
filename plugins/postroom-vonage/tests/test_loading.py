"""An account that is not used costs nothing, and no message loads the SDK unless it brings options."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
def sdk():
    return sorted({name.partition(".")[0] for name in sys.modules} & {"vonage", "vonage_sms", "vonage_messages",
        "vonage_http_client", "vonage_jwt", "vonage_utils", "requests", "jwt", "cryptography"})
import postroom_vonage
assert "postroom_vonage.transport" not in sys.modules and "aiohttp" not in sys.modules
transport = postroom_vonage.postroom_sms_transport()
assert not sdk(), sdk()
from datetime import UTC, datetime
from postroom.messages import Sms
from postroom_vonage import messages_api, sms_api
from postroom_vonage.options import known_fields
message = Sms(to="+447700900000", from_="Shop", body="hi")
messages_api.fields(message, datetime.now(UTC)), sms_api.fields(message, datetime.now(UTC))
assert not sdk(), sdk()
known_fields("sms-api"), known_fields("whatsapp")
assert "vonage" not in sdk(), sdk()
"""


def test_the_transport_loads_without_the_sdk() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
