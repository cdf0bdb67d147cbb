"""What `postroom new-provider` writes, tested as its author would, and on a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import CommandLine


@pytest.mark.timeout(300)
def test_an_email_provider_passes_its_tests_as_it_is(command: CommandLine) -> None:
    """tests/packaging does the same for SMS, in an environment of its own."""
    assert command("new-provider", "acme-mail", "--channel", "email").code == 0
    folder = command.folder / "postroom-acme-mail"
    info = command.folder / "postroom_acme_mail-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: postroom-acme-mail\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[postroom]\nacme-mail = postroom_acme_mail\n")
    installed = command.environment | {"PYTHONPATH": os.pathsep.join([str(command.folder), str(folder / "src")])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:asyncio", "-p", "no:benchmark", "-p", "no:cacheprovider"],
        cwd=folder,
        env=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "AcmeMailEmail (TestAcmeMail)" in done.stdout


def test_a_full_disk_is_reported_and_leaves_nothing_behind(command: CommandLine) -> None:
    # Measuring coverage writes a file of its own, which would not fit either.
    limits = "unset COVERAGE_PROCESS_START; ulimit -f 0"
    line = f"{limits}; exec {sys.executable} -m postroom new-provider acme --channel sms"
    done = subprocess.run(
        ["sh", "-c", line], cwd=command.folder, capture_output=True, text=True, env=command.environment, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "error: cannot write into postroom-acme: File too large; nothing is left of it\n"
    assert list(command.folder.iterdir()) == []
