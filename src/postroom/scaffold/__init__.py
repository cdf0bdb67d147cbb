"""A provider to begin with: `postroom new-provider` writes this distribution, which works as it is."""

from __future__ import annotations

import re
from importlib.metadata import version
from importlib.resources import files
from shutil import rmtree
from string import Template
from typing import TYPE_CHECKING

from postroom.errors import PostroomError
from postroom.plugin import INTERFACE_VERSION
from postroom.receipts import Channel
from postroom.registry.registry import OURS, Registry

if TYPE_CHECKING:
    from pathlib import Path

MARK = "FILL IN"
"""What stands wherever the author has something to do."""

LONGEST_NAME = 24

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".github/workflows/tests.yml": "tests.yml",
    "src/$package/__init__.py": "init.py",
    "src/$package/settings.py": "settings.py",
    "src/$package/payload.py": "payload_$channel.py",
    "src/$package/errors.py": "errors.py",
    "src/$package/webhook.py": "webhook.py",
    "src/$package/transport.py": "transport.py",
    "tests/test_conformance.py": "test_conformance.py",
    "tests/test_errors.py": "test_errors.py",
}
"""Where each file goes -> the template it is made of."""

_OF_CHANNEL = {
    Channel.EMAIL: {
        "Message": "Email",
        "kit": "EmailConformance, FakeHttpProvider, WebhookSample",
        "spoken": "e-mail",
        "sender": "Post Room <post@example.org>",
        "carries": "`cc`, `bcc`, `reply_to`, `html`, `headers`, `provider_options`",
        "capabilities": 'features=frozenset({"cc", "bcc", "reply_to", "html", "headers", "provider_options"})',
        "example": 'to="ann@example.org", from_="post@example.org", text="Hello"',
    },
    Channel.SMS: {
        "Message": "Sms",
        "kit": "FakeHttpProvider, SmsConformance, WebhookSample",
        "spoken": "SMS",
        "sender": "+442079460999",
        "carries": "plain text and `provider_options`; one recipient a message",
        "capabilities": 'features=frozenset({"provider_options"}), max_recipients=1',
        "example": 'to="+442079460958", from_="+442079460999", body="Hello"',
    },
}


class ScaffoldError(PostroomError):
    """The distribution cannot be written under this name, or in this place."""

    code = "scaffold_error"


def write_provider(name: str, channel: Channel, parent: Path) -> Path:
    """Write the distribution `postroom-NAME` into a new folder of `parent`, and return the folder.

    Raises ScaffoldError for a name that cannot be used, a folder that is there already, or a file that cannot be
    written; nothing is left behind then.
    """
    _check_name(name)
    folder = parent / f"postroom-{name}"
    try:
        folder.mkdir()
    except FileExistsError:
        raise ScaffoldError(f"{folder} is there already; remove it, or work in another folder") from None
    except OSError as error:
        raise ScaffoldError(f"cannot make {folder}: {error.strerror}") from error
    try:
        _write_files(folder, _words(name, channel))
    except OSError as error:
        rmtree(folder, ignore_errors=True)
        raise ScaffoldError(f"cannot write into {folder}: {error.strerror}; nothing is left of it") from error
    return folder


def _write_files(folder: Path, words: dict[str, str]) -> None:
    for target, template in _FILES.items():
        file = folder / Template(target).substitute(words)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_filled(Template(template).substitute(words), words), encoding="utf-8")
    (folder / "src" / words["package"] / "py.typed").touch()


def open_places(folder: Path) -> dict[Path, int]:
    """Return how often each file below `folder` asks the author to fill something in; others are left out."""
    counts = {
        path: path.read_text(encoding="utf-8").count(MARK) for path in sorted(folder.rglob("*.*")) if path.is_file()
    }
    return {path.relative_to(folder): count for path, count in counts.items() if count}


def _check_name(name: str) -> None:
    if name.startswith("postroom-"):
        raise ScaffoldError(f"give the provider's name alone: {name.removeprefix('postroom-')}")
    if len(name) > LONGEST_NAME or not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ScaffoldError(
            f"{name!r} cannot be a provider's name; use up to {LONGEST_NAME} small letters, digits and single hyphens, "
            "beginning with a letter, such as acme or acme-sms"
        )
    if name in OURS:
        raise ScaffoldError(f"{name!r} is the provider of {OURS[name]}; choose another name")
    taken = Registry().claimants(name)
    if taken:
        raise ScaffoldError(f"{name!r} is the provider of {', '.join(taken)}, which is installed; choose another name")


def _filled(template: str, words: dict[str, str]) -> str:
    text = files(__package__).joinpath("templates", f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(words)


def _words(name: str, channel: Channel) -> dict[str, str]:
    word = name.replace("-", "_")
    return {
        **_OF_CHANNEL[channel],
        "name": name,
        "Name": "".join(part.capitalize() for part in name.split("-")),
        "VARIABLE": word.upper(),
        "package": f"postroom_{word}",
        "distribution": f"postroom-{name}",
        "channel": str(channel),
        "CHANNEL": channel.name,
        "interface": str(INTERFACE_VERSION),
        "versions": _compatible(version("postroom")),
    }


def _compatible(release: str) -> str:
    """The releases that keep the interface: of 0.x those with the same x, later those with the same first number."""
    major, minor = (int(part) for part in release.split(".")[:2])
    return f">={major}.{minor},<{f'0.{minor + 1}' if major == 0 else major + 1}"
