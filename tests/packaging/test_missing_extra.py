from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.packaging.conftest import Installed

ACME = Path(__file__).parents[1] / "plugins" / "postroom-acme"


def test_a_plugin_that_lacks_the_http_extra_says_which_to_install(
    environment_of: Callable[[str], Installed], tmp_path: Path
) -> None:
    """A third party's wheel on the path of an environment that has the core alone."""
    core = environment_of("postroom")
    built = subprocess.run(
        [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(tmp_path), str(ACME)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "path")

    code = (
        "import sys, json\n"
        f"sys.path.append({str(tmp_path / 'path')!r})\n"
        "from postroom.registry.registry import Registry\n"
        "print(json.dumps({i.name: str(i.error) if i.error else None for i in Registry().describe()}))"
    )
    found = core.answer("python", "-c", code)
    for name in ("acme", "postroom"):
        assert "pip install 'postroom[http]'" in found.pop(name)
    assert set(found.values()) == {None}
