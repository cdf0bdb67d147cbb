"""An account that is not used costs nothing."""

from __future__ import annotations

import subprocess
import sys


def test_the_transport_loads_without_the_sdk() -> None:
    script = (
        "import sys, postroom_twilio; assert 'postroom_twilio.transport' not in sys.modules;"
        "assert 'aiohttp' not in sys.modules; postroom_twilio.postroom_sms_transport();"
        "sys.exit(any(name == 'twilio' or name.startswith('twilio.') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
