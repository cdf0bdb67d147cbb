"""The five distributions, built and installed where the checkout is out of sight."""

from __future__ import annotations

import email
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.packaging.conftest import Installed

EnvironmentOf = Callable[[str], "Installed"]

ROOT = Path(__file__).parents[2]
PLUGINS = ["sendgrid", "smtp", "twilio", "vonage"]
DISTRIBUTIONS = ["postroom", *(f"postroom-{name}" for name in PLUGINS)]
BUILT_IN = ["console", "file", "memory", "postroom"]
OVER_HTTP = "postroom"
"""The built-in provider that needs the extra `http`."""

OF_GATEWAY = {"httptools", "prometheus_client", "starlette", "uvicorn"}

SMALL = {
    "annotated-doc",
    "annotated-types",
    "dnspython",
    "email-validator",
    "idna",
    "markdown-it-py",
    "mdurl",
    "phonenumberslite",
    "pluggy",
    "postroom",
    "pydantic",
    "pydantic-core",
    "pygments",
    "rich",
    "shellingham",
    "typer",
    "typing-extensions",
    "typing-inspection",
}
"""All that `pip install postroom` brings: the declared dependencies and what they need themselves."""

SMS = ("send", "sms", "--to", "+442079460958", "--body", "x")

pytestmark = pytest.mark.timeout(300)


def project(name: str) -> dict[str, Any]:
    folder = ROOT if name == "postroom" else ROOT / "plugins" / name
    return dict(tomllib.loads((folder / "pyproject.toml").read_text())["project"])


def wheel(dist: Path, name: str) -> zipfile.ZipFile:
    (found,) = dist.glob(f"{name.replace('-', '_')}-*.whl")
    return zipfile.ZipFile(found)


def information(dist: Path, name: str, file: str) -> str:
    """A file of the wheel's dist-info folder."""
    with wheel(dist, name) as archive:
        (path,) = [entry for entry in archive.namelist() if entry.endswith(f".dist-info/{file}")]
        return archive.read(path).decode()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_holds_every_file_of_its_package_and_nothing_else(dist: Path, name: str) -> None:
    package = name.replace("-", "_")
    source = (ROOT if name == "postroom" else ROOT / "plugins" / name) / "src"
    files = (path.relative_to(source) for path in source.rglob("*") if path.is_file())
    there = {str(path) for path in files if path.parts[0] == package and "__pycache__" not in path.parts}
    with wheel(dist, name) as archive:
        held = {entry for entry in archive.namelist() if not entry.endswith("/") and ".dist-info/" not in entry}
    assert held == there
    assert f"{package}/py.typed" in held


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_says_who_it_is_and_carries_the_licence(dist: Path, name: str) -> None:
    metadata = email.message_from_string(information(dist, name, "METADATA"))
    assert (metadata["Name"], metadata["Version"]) == (name, project(name)["version"])
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert set(metadata.get_all("Classifier") or ()) >= {
        f"Programming Language :: Python :: 3.{n}" for n in (11, 12, 13)
    }
    assert information(dist, name, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheels_entry_points_are_its_providers(dist: Path, name: str) -> None:
    entries = information(dist, name, "entry_points.txt").split("[postroom]\n")[1].split("\n[")[0]
    providers = sorted(line.split(" = ")[0] for line in entries.split("\n") if line)
    assert providers == (BUILT_IN if name == "postroom" else [name.removeprefix("postroom-")])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_source_archive_holds_no_other_part_of_the_workspace(dist: Path, name: str) -> None:
    (found,) = dist.glob(f"{name.replace('-', '_')}-*.tar.gz")
    with tarfile.open(found) as archive:
        tops = {entry.split("/")[1] for entry in archive.getnames() if "/" in entry}
    assert tops == {"src", "README.md", "pyproject.toml", "pyproject.toml.orig", "PKG-INFO", "LICENSE"}


def test_the_core_alone_brings_just_what_it_declares(environment_of: EnvironmentOf) -> None:
    assert environment_of("postroom").distributions() == SMALL


def test_the_core_alone_knows_its_version_and_its_own_providers(environment_of: EnvironmentOf) -> None:
    core = environment_of("postroom")
    assert core.run("postroom", "--version").stdout == f"postroom {project('postroom')['version']}\n"
    found = core.answer("postroom", "providers", "--json")
    assert {p["name"]: p["status"] for p in found} == dict.fromkeys(BUILT_IN, "loaded") | {OVER_HTTP: "broken"}
    assert "pip install 'postroom[http]'" in next(p["error"] for p in found if p["name"] == OVER_HTTP)


def test_the_core_alone_sends(environment_of: EnvironmentOf) -> None:
    assert environment_of("postroom").answer("postroom", *SMS, "--provider", "memory", "--json")["status"] == "sent"


def test_the_core_alone_imports_whole_but_for_what_an_extra_is_for(environment_of: EnvironmentOf) -> None:
    missing = environment_of("postroom").unimportable("postroom")
    on_postgres = {module for module in missing if ".postgres" in module}
    assert {missing.pop(module) for module in on_postgres} == {"asyncpg"}
    served = {module for module in missing if module.startswith("postroom.gateway.")}
    assert {missing.pop(module) for module in served} <= OF_GATEWAY
    over_http = (
        *(f"postroom.plugin.{name}" for name in ("exchange", "http", "http_session")),
        "postroom.builtin.forward",
    )
    for_tests = ("postroom.testing.conformance", "postroom.testing.pytest_plugin")
    assert missing == dict.fromkeys(over_http, "aiohttp") | dict.fromkeys(for_tests, "pytest")


def test_a_provider_that_is_not_installed_says_what_to_install(environment_of: EnvironmentOf) -> None:
    sent = environment_of("postroom").run("postroom", *SMS, "--provider", "twilio")
    assert sent.returncode == 2
    assert "pip install postroom-twilio" in sent.stderr


@pytest.mark.parametrize("name", PLUGINS)
def test_an_extra_brings_its_plugin_and_all_that_its_modules_import(environment_of: EnvironmentOf, name: str) -> None:
    environment = environment_of(f"postroom[{name}]")
    assert environment.unimportable(f"postroom_{name}") == {}
    found = environment.answer("postroom", "providers", "--json")
    broken = {OVER_HTTP: "broken"} if name == "smtp" else {}
    assert {p["name"]: p["status"] for p in found} == dict.fromkeys([*BUILT_IN, name], "loaded") | broken


def test_smtp_needs_no_http_client_and_no_providers_sdk(environment_of: EnvironmentOf) -> None:
    assert environment_of("postroom[smtp]").distributions() - SMALL == {"aiosmtplib", "postroom-smtp"}


def test_the_extra_all_brings_every_other_extra(environment_of: EnvironmentOf) -> None:
    environment = environment_of("postroom[all]")
    assert {"aiohttp", "pytest", *DISTRIBUTIONS} <= environment.distributions()
    assert environment.unimportable("postroom") == {}
    found = environment.answer("postroom", "providers", "--json")
    assert {p["name"] for p in found if p["status"] == "loaded"} == {*BUILT_IN, *PLUGINS}


def test_the_demo_on_postgresql_needs_one_extra_and_nothing_else_on_the_machine(environment_of: EnvironmentOf) -> None:
    demo = environment_of("postroom[postgres-demo]").run("postroom", "demo", "--postgres")
    assert demo.returncode == 0, demo.stdout + demo.stderr


def test_the_demo_runs_through_all_four_plugins_outside_the_checkout(environment_of: EnvironmentOf) -> None:
    demo = environment_of("postroom[all]").run("postroom", "demo")
    assert demo.returncode == 0, demo.stdout + demo.stderr
