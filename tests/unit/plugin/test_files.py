"""A file named for a secret is read whole if it is a regular one of a size that a secret may have; nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from postroom import MissingCredential, Postroom
from postroom.plugin import read_secret_file
from postroom.plugin.files import LARGEST_SECRET


def test_a_regular_file_is_read_through_links_too(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush\n")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    assert read_secret_file(tmp_path / "link") == "hush\n"


@pytest.mark.parametrize("path", ["/dev/zero", "pipe", "folder", "large", "binary"])
def test_what_has_no_end_or_no_reader_or_no_text_is_not_read(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"x" * (LARGEST_SECRET + 1))
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises((ValueError, OSError)):
        read_secret_file(tmp_path / path)


def test_a_secret_of_the_configuration_is_read_from_regular_files_only() -> None:
    account = {"provider": "smtp", "host": "mx.example.org", "username": "u", "password": {"file": "/dev/zero"}}
    with pytest.raises(MissingCredential, match="regular file"):
        Postroom(accounts={"main": account}).validate()
