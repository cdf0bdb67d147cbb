"""`postroom new-provider`, as a command."""

from __future__ import annotations

from pathlib import Path
import os
import re
import subprocess
import sys

import pytest


def test_it_says_what_it_wrote_and_where_the_authors_part_is(cli, tmp_path: Path) -> None:
    done = cli("new-provider", "acme", "--channel", "sms")
    assert done.code == 0, done.err
    assert done.out.startswith("wrote postroom-acme")
    told = {name: int(count) for name, count in re.findall(r"^  postroom-acme/(\S+): (\d+)$", done.out, re.MULTILINE)}
    assert told["src/postroom_acme/transport.py"] >= 3
    for name, count in told.items():
        assert (tmp_path / "postroom-acme" / name).read_text().count("FILL IN") == count
    assert "pip install --group dev -e postroom-acme" in done.out


@pytest.mark.timeout(120)
def test_an_email_provider_passes_its_tests_as_it_is(cli, tmp_path: Path, clean_environment) -> None:
    """tests/packaging does the same for SMS, in an environment of its own."""
    assert cli("new-provider", "acme-mail", "--channel", "email").code == 0
    folder = tmp_path / "postroom-acme-mail"
    info = tmp_path / "postroom_acme_mail-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: postroom-acme-mail\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[postroom]\nacme-mail = postroom_acme_mail\n")
    installed = clean_environment | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(folder / "src")])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:asyncio", "-p", "no:benchmark", "-p", "no:cacheprovider"],
        cwd=folder,
        env=installed,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "AcmeMailEmail (TestAcmeMail)" in done.stdout


def test_what_cannot_be_is_one_line_that_says_what_to_do_and_exit_code_two(cli, tmp_path: Path) -> None:
    for arguments, words in (
        (("Acme", "--channel", "sms"), "small letters"),
        (("twilio", "--channel", "sms"), "postroom-twilio"),
        (("acme", "--channel", "fax"), "'email', 'sms'"),
        (("acme",), "--channel"),
    ):
        done = cli("new-provider", *arguments)
        assert done.code == 2
        assert words in done.err
        assert "Traceback" not in done.err
    assert list(tmp_path.glob("postroom-*")) == []


def test_a_second_time_the_folder_is_there_already(cli) -> None:
    assert cli("new-provider", "acme", "--channel", "email").code == 0
    done = cli("new-provider", "acme", "--channel", "email")
    assert done.code == 2
    assert "is there already" in done.err


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path, clean_environment) -> None:
    command = f"ulimit -f 0; exec {sys.executable} -m postroom new-provider acme --channel sms"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, env=clean_environment)
    assert done.returncode == 2
    assert done.stderr == "error: cannot write into postroom-acme: File too large; nothing is left of it\n"
    assert list(tmp_path.iterdir()) == []
