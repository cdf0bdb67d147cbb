"""`postroom new-provider`: what it writes, and what it refuses."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from postroom.plugin import EMAIL_FEATURES, INTERFACE_VERSION, SMS_FEATURES
from postroom.receipts import Channel
from postroom.registry.registry import OURS, Registry
from postroom.scaffold import LONGEST_NAME, MARK, ScaffoldError, _compatible, open_places, write_provider

SOURCE = Path(__file__).parents[3] / "src"
LONGEST = "a" * (LONGEST_NAME - 3) + "-b1"
NAMES = ["acme", "acme-sms", "a1", LONGEST]


@pytest.mark.parametrize("channel", Channel)
def test_every_file_says_what_is_the_authors_part(tmp_path: Path, channel: Channel) -> None:
    folder = write_provider("acme", channel, tmp_path)
    assert folder == tmp_path / "postroom-acme"
    places = {str(path) for path in open_places(folder)}
    package = {f"src/postroom_acme/{name}.py" for name in ("settings", "payload", "errors", "webhook", "transport")}
    assert places == package | {"tests/test_conformance.py", "tests/test_errors.py", "pyproject.toml", "README.md"}
    assert all(f"# {MARK}: " in path.read_text() for path in folder.rglob("*.py") if path.name in places)


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_names_the_provider_throughout_and_leaves_no_placeholder(
    tmp_path: Path, channel: Channel, name: str
) -> None:
    folder = write_provider(name, channel, tmp_path)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    package = f"postroom_{name.replace('-', '_')}"
    assert project["name"] == f"postroom-{name}"
    assert project["entry-points"]["postroom"] == {name: package}
    for path in folder.rglob("*.py"):
        ast.parse(path.read_text())
    for path in folder.rglob("*.*"):
        if path.is_file():
            assert not re.search(r"\$\{?[A-Za-z]", path.read_text()), path
    module = (folder / "src" / package / "__init__.py").read_text()
    assert f"postroom_interface = {INTERFACE_VERSION}" in module
    assert f"def postroom_{channel}_transport" in module


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the type checker found out about postroom, once for all that is written."""
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.slow
@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("name", ["acme", LONGEST])
def test_what_is_written_is_clean_by_its_own_linter_formatter_and_strict_type_checker(
    tmp_path: Path, mypy_cache: Path, channel: Channel, name: str
) -> None:
    folder = write_provider(name, channel, tmp_path)
    checked = ["ruff check --no-cache", "ruff format --check --no-cache", f"mypy --cache-dir {mypy_cache} src tests"]
    for command in checked:
        done = subprocess.run(
            [sys.executable, "-m", *command.split()],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"MYPYPATH": f"src{os.pathsep}{SOURCE}"},
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("channel", "features"), [(Channel.EMAIL, EMAIL_FEATURES), (Channel.SMS, SMS_FEATURES)])
def test_the_features_that_it_declares_are_words_of_the_channel(
    tmp_path: Path, channel: Channel, features: frozenset[str]
) -> None:
    transport = (write_provider("acme", channel, tmp_path) / "src/postroom_acme/transport.py").read_text()
    found = re.search(r"frozenset\((\{.*?\})\)", transport)
    assert found
    declared = set(ast.literal_eval(found[1]))
    assert declared
    assert declared <= features


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Acme",
        "acme sms",
        "acme_sms",
        "1acme",
        "-acme",
        "acme-",
        "a--b",
        "acme.sms",
        "../acme",
        "ácme",
        "a" * 25,
        "a\n",
    ],
)
def test_a_name_that_cannot_be_a_providers_is_refused_with_the_rule(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScaffoldError, match="small letters, digits and single hyphens"):
        write_provider(name, Channel.SMS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_distributions_name_is_refused_with_the_providers(tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match="give the provider's name alone: acme"):
        write_provider("postroom-acme", Channel.SMS, tmp_path)


@pytest.mark.parametrize("name", sorted({*OURS, *Registry().names()}))
def test_the_name_of_a_known_or_installed_provider_is_refused_with_its_distribution(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScaffoldError, match=rf"'{name}' is the provider of postroom.*; choose another name"):
        write_provider(name, Channel.SMS, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["folder", "file"])
def test_what_is_there_already_is_left_alone(tmp_path: Path, there: str) -> None:
    path = tmp_path / "postroom-acme"
    path.mkdir() if there == "folder" else path.write_text("mine")
    with pytest.raises(ScaffoldError, match="postroom-acme is there already; remove it"):
        write_provider("acme", Channel.SMS, tmp_path)
    assert (list(path.iterdir()) == []) if there == "folder" else (path.read_text() == "mine")


@pytest.mark.parametrize(
    ("release", "wanted"),
    [("0.1.0", ">=0.1,<0.2"), ("0.9.3", ">=0.9,<0.10"), ("1.4.2", ">=1.4,<2"), ("2.0.0", ">=2.0,<3")],
)
def test_it_asks_for_the_releases_that_keep_the_interface(release: str, wanted: str) -> None:
    assert _compatible(release) == wanted
