"""Import cost: an account that is only configured costs nothing but the plugin's own code."""

from __future__ import annotations

import asyncio
import json
import sys

from postroom.errors import PluginError
from postroom.registry.registry import Registry
from postroom.testing.conformance.base import Conformance, FakeT, SettingsT, expect
from postroom.testing.conformance.rule import ConformanceError, rule

_PROBE = """
import json, sys
import aiohttp, postroom.plugin.http, postroom.mime, postroom.registry.registry, postroom.segments
from postroom.receipts import Channel
before = set(sys.modules)
own = postroom.registry.registry.Registry().transport(sys.argv[1], Channel(sys.argv[2])).__module__.partition(".")[0]
usual = {name.partition(".")[0] for name in before} | set(sys.stdlib_module_names) | {own, "postroom"}
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} - usual)))
"""


class ImportCost(Conformance[FakeT, SettingsT]):
    """The entry point, and what loading it brings in."""

    @rule(
        "declare the entry point in pyproject.toml ([project.entry-points.postroom]) and install the distribution "
        "(pip install -e .); its hook must return this class"
    )
    async def test_the_entry_point_gives_this_transport(self) -> None:
        try:
            found = Registry().transport(self.provider, self.transport.channel)
        except PluginError as error:
            raise ConformanceError(str(error)) from error
        expect(found is self.transport, f"provider {self.provider!r} gives {found!r}")

    @rule("import the SDK inside the function that uses it: an account that is only configured must not pay")
    async def test_loading_the_provider_brings_in_no_sdk(self) -> None:
        probe = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROBE, self.provider, str(self.transport.channel)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await probe.communicate()
        expect(probe.returncode == 0, f"loading {self.provider!r} failed: {errors.decode()[-2000:]}")
        loaded = json.loads(output)
        expect(not loaded, f"loading the provider imports {', '.join(loaded)}")
