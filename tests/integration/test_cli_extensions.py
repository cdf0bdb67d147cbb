from __future__ import annotations

from pathlib import Path
import pytest

HOOK = "import typer\nfrom postroom.plugin import hookimpl\n@hookimpl\ndef postroom_commands(app):\n"

GOOD = f"""{HOOK}
    @app.command()
    def greet(name: str = "you"):
        typer.echo(f"hello {{name}}")
"""

BROKEN = {
    "raises on import": "raise RuntimeError('broken')",
    "leaves on import": "raise SystemExit(7)",
    "raises in its hook": f"{HOOK}    raise RuntimeError('broken')",
    "leaves in its hook": f"{HOOK}    raise SystemExit(7)",
    "has a command that typer cannot read": f"{HOOK}    @app.command()\n    def odd(value: int | str): ...",
    "takes the name of a command": f"{HOOK}    @app.command()\n    def check(): typer.echo('mine')",
}


@pytest.fixture
def install(site, tmp_path: Path):
    """Make extensions of module texts, named in the configuration; returns the environment to run with."""

    def laid_out(**modules: str) -> dict[str, str]:
        names = {name: f"{name}_module" for name in modules}
        site.add("some-extensions", extensions=names, modules={f"{n}_module": text for n, text in modules.items()})
        listed = ", ".join(f'"{name}"' for name in modules)
        (tmp_path / "postroom.toml").write_text(f"[plugins]\nextensions = [{listed}]\n")
        return {"PYTHONPATH": str(site.folder)}

    return laid_out


def test_an_extension_adds_a_command(cli, install) -> None:
    env = install(good=GOOD)
    assert cli("greet", "--name", "Ann", env=env).out == "hello Ann\n"
    assert "greet" in cli("--help", env=env).out


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_extension_harms_no_other_command(cli, install, text) -> None:
    env = install(bad=text, good=GOOD)

    assert cli("greet", env=env).out == "hello you\n"
    listed = cli("providers", "--json", env=env)
    assert listed.code == 0
    assert {"memory", "smtp"} <= {provider["name"] for provider in listed.json}
    assert "extension 'bad' adds no commands" in listed.err
    assert len(listed.err.splitlines()) == 1
    assert "mine" not in cli("check", "--help", env=env).out


def test_an_extension_that_the_configuration_does_not_name_is_not_loaded(cli, install, tmp_path: Path) -> None:
    env = install(good=GOOD)
    (tmp_path / "postroom.toml").unlink()
    assert cli("greet", env=env).code == 2


def test_extensions_may_be_named_in_the_environment_or_in_another_file(cli, install, tmp_path: Path) -> None:
    env = install(good=GOOD)
    (tmp_path / "postroom.toml").rename(tmp_path / "other.toml")
    assert cli("--config", "other.toml", "greet", env=env).out == "hello you\n"
    assert cli("--config=other.toml", "greet", env=env).out == "hello you\n"
    assert cli("greet", env={**env, "POSTROOM_PLUGINS__EXTENSIONS": "good"}).out == "hello you\n"
