from __future__ import annotations

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

DISTRIBUTIONS = ["postroom", "postroom_sendgrid", "postroom_smtp", "postroom_twilio", "postroom_vonage"]

SMALL = {
    "annotated-types",
    "annotated-doc",
    "click",
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
"""All that `pip install postroom` may bring: the declared dependencies and what they need themselves."""


def wheel(dist: Path, name: str) -> zipfile.ZipFile:
    (found,) = dist.glob(f"{name}-*.whl")
    return zipfile.ZipFile(found)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_holds_the_package_its_types_and_its_entry_points_only(dist, name):
    names = wheel(dist, name).namelist()
    assert f"{name}/py.typed" in names
    assert any(entry.endswith("entry_points.txt") for entry in names)
    assert {entry.split("/")[0].split("-")[0] for entry in names} == {name}
    assert not [entry for entry in names if "test_" in entry or "/tests/" in entry]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_source_archive_holds_no_other_part_of_the_workspace(dist, name):
    (found,) = dist.glob(f"{name}-*.tar.gz")
    with tarfile.open(found) as archive:
        tops = {entry.split("/")[1] for entry in archive.getnames() if "/" in entry}
    assert tops <= {"src", "README.md", "pyproject.toml", "pyproject.toml.orig", "PKG-INFO", "LICENSE"}


def test_the_licence_goes_with_the_core(dist):
    assert any(name.endswith("licenses/LICENSE") for name in wheel(dist, "postroom").namelist())


def test_the_core_alone_is_small_and_sends(dist, empty_environment):
    empty_environment.install(dist, "postroom")

    listed = empty_environment.run(
        "-c",
        "import importlib.metadata as m, json, re\n"
        "print(json.dumps([re.sub('[-_.]+', '-', d.name).lower() for d in m.distributions()]))",
    )
    assert set(json.loads(listed.stdout)) <= SMALL

    assert empty_environment.run("-m", "postroom", "--version").stdout.startswith("postroom ")
    sent = empty_environment.run(
        *("-m", "postroom", "send", "sms", "--provider", "memory", "--to", "+442079460958", "--body", "x", "--json")
    )
    assert json.loads(sent.stdout)["status"] == "sent", sent.stderr


def test_a_provider_that_is_not_installed_says_what_to_install(dist, empty_environment):
    empty_environment.install(dist, "postroom")
    sent = empty_environment.run(
        *("-m", "postroom", "send", "sms", "--provider", "twilio", "--to", "+442079460958", "--body", "x")
    )
    assert sent.returncode == 2
    assert "pip install postroom-twilio" in sent.stderr


def test_the_extras_bring_the_plugins_and_all_of_them_work(dist, empty_environment):
    empty_environment.install(dist, "postroom[sendgrid,smtp,twilio,vonage]")
    found = json.loads(empty_environment.run("-m", "postroom", "providers", "--json").stdout)
    assert {p["name"]: p["status"] for p in found} == dict.fromkeys(
        ["console", "file", "memory", "sendgrid", "smtp", "twilio", "vonage"], "loaded"
    )
    demo = empty_environment.run("-m", "postroom", "demo")
    assert demo.returncode == 0, demo.stdout + demo.stderr


@pytest.mark.parametrize("name", ["sendgrid", "smtp", "twilio", "vonage"])
def test_a_plugin_declares_all_that_its_modules_import(dist, empty_environment, name):
    empty_environment.install(dist, f"postroom-{name}")
    code = (
        f"import pkgutil, importlib, postroom_{name} as package\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    done = empty_environment.run("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
