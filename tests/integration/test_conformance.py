"""The conformance kit at work: it passes a right plugin, and says to the author of a wrong one what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree  # noqa: ICN001

import pytest

if TYPE_CHECKING:
    from tests.conftest import CommandLine

WRONG = Path(__file__).parents[1] / "plugins" / "postroom-wrong"
CASES = WRONG / "conformance_cases.py"


@dataclass(frozen=True)
class Run:
    """One run of pytest: what failed (test -> message), how many passed, and what the terminal showed."""

    failed: dict[str, str]
    passed: int
    code: int
    shown: str


RunKit = Callable[..., Run]


@pytest.fixture(scope="module")
def run_kit(tmp_path_factory: pytest.TempPathFactory) -> RunKit:
    """Runs the kit in a pytest of its own, without any asyncio plugin, as an author outside this repository would."""

    def run(*tests: str, text: str = "", options: tuple[str, ...] = ()) -> Run:
        folder = tmp_path_factory.mktemp("kit")
        cases = folder / "test_cases.py" if text else CASES
        if text:
            cases.write_text(text)
        (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        report = folder / "report.xml"
        plain = ["-p", "no:asyncio", "-p", "no:cacheprovider", "-q", "-c", str(folder / "pytest.ini")]
        selected = [f"{cases}::{test}" for test in tests] or [str(cases)]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *plain, f"--junitxml={report}", *options, *selected],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(WRONG), os.environ.get("PYTHONPATH", "")])},
            cwd=folder,
            timeout=100,
            check=False,
        )
        return Run(*_results(report), done.returncode, done.stdout + done.stderr)

    return run


def _results(report: Path) -> tuple[dict[str, str], int]:
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    failures = {_name(case): case.find("failure") for case in cases}
    failed = {name: failure.text or "" for name, failure in failures.items() if failure is not None}
    return failed, len(cases) - len(failed)


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"


def test_a_right_plugin_passes_the_whole_kit(run_kit: RunKit) -> None:
    run = run_kit("TestRight")
    assert run.failed == {}, run.shown
    assert run.passed > 100
    assert "RightSms (TestRight): " in run.shown
    assert "do not apply" not in run.shown


OUTCOMES = "test_a_failure_has_its_true_outcome"
REQUESTS = "test_one_attempt_is_one_request"
SECRETS = "test_no_secret_is_in_an_answer_an_error_a_traceback_or_the_log"
CANCELLED = "test_a_cancelled_send_has_left_once_and_the_next_one_goes_out"
FEATURES = "test_a_feature_arrives_if_declared_and_is_refused_if_not"


WRONG_PLUGINS = {
    "Swallows": ([f"{OUTCOMES}[unauthorised]", f"{OUTCOMES}[silent]"], "reported accepted", "raise "),
    "Retries": ([f"{REQUESTS}[closed-after-read]"], "was tried 2 times", "switch off those of the SDK"),
    "Leaks": (["test_no_secret_is_in_a_representation"], "repr(transport) shows a secret", "leave __repr__"),
    "Blocks": (["test_the_event_loop_is_never_blocked"], "the event loop stood still", "asyncio.to_thread"),
    "Believes": ([f"{OUTCOMES}[empty-success]"], "was reported accepted", "raise UnexpectedResponse"),
    "Impatient": (["test_the_wait_a_provider_asks_for_is_kept"], "asked for 17.0 s", "retry_after=seconds"),
    "Drops": ([f"{FEATURES}[media]"], "media was accepted and then dropped", "out of capabilities.features"),
    "Shuffles": (["test_a_batch_is_answered_in_its_order"], "its result says", "in the order of the batch"),
    "Guesses": ([f"{OUTCOMES}[closed-after-read]"], "outcome must be unknown", "raise OutcomeUnknown"),
    "Trusts": (["test_an_unsigned_webhook_is_refused"], "without a signature was taken", "raise SignatureInvalid"),
}
WRONG_TOO = {
    "Confides": ([f"{SECRETS}[accepted]"], "the log shows a secret", "keep headers, URLs and bodies out of logs"),
    "Gossips": (["test_no_message_is_in_the_log"], "the log holds the message's body", "log ids and outcomes"),
    "Abandons": (["test_a_refused_message_of_a_batch_fails_alone"], "send_many raised", "judge each message"),
    "Forgets": (["test_a_message_handed_over_again_is_sent_again"], "message.id is not in", "as the idempotency key"),
    "Assumes": (["test_a_failed_lookup_settles_nothing"], "reconcile answered NotTaken", "raise a DeliveryError"),
    "Hurries": (["test_a_replayed_webhook_reads_the_same"], "the same webhook was read as", "never from the clock"),
    "Shrugs": ([CANCELLED], "as if it had not been cancelled", "let CancelledError through"),
    "Waits": (["test_the_timeout_is_kept"], "did not end within", "end within settings.timeout"),
    "Promises": (["test_a_message_that_is_withdrawn_is_not_sent"], "was answered", "await confirmation()"),
    "Confuses": (["test_messages_sent_at_once_each_get_their_own_answer"], "its result says", "in local variables"),
    "Careless": (["test_an_unknown_setting_is_refused_by_name"], "no_such_setting wrong were taken", "extra = forbid"),
    "HeavySms": (["test_loading_the_provider_brings_in_no_sdk"], "imports iniconfig", "inside the function"),
}
ALL_WRONG = {**WRONG_PLUGINS, **WRONG_TOO}


@pytest.fixture(scope="module")
def run_of_the_wrong(run_kit: RunKit) -> Run:
    return run_kit(
        *(f"Test{plugin.removesuffix('Sms')}::{test}" for plugin, (tests, *_) in ALL_WRONG.items() for test in tests)
    )


@pytest.mark.parametrize("plugin", ALL_WRONG)
def test_a_wrong_plugin_is_failed_and_its_author_reads_what_to_do(run_of_the_wrong: Run, plugin: str) -> None:
    tests, seen, advice = ALL_WRONG[plugin]
    for test in tests:
        message = run_of_the_wrong.failed[f"Test{plugin.removesuffix('Sms')}::{test}"]
        failure, _, to_do = message.partition("What to do: ")
        assert f"{plugin}: " in failure
        assert seen in failure
        assert advice in to_do


def test_a_leak_is_reported_without_the_secret(run_of_the_wrong: Run) -> None:
    assert "canary" not in run_of_the_wrong.failed["TestLeaks::test_no_secret_is_in_a_representation"]


def test_a_stated_deviation_may_fail_and_the_report_shows_it_with_its_reason(run_kit: RunKit) -> None:
    run = run_kit(f"TestExcused::{FEATURES}")
    assert (run.code, run.failed) == (0, {})
    assert "1 deviating" in run.shown
    assert f"deviation {FEATURES}[media]: Right turns media into links" in run.shown


def test_a_deviation_that_no_longer_deviates_is_failed(run_kit: RunKit) -> None:
    run = run_kit("TestStale::test_the_timeout_is_kept")
    assert "passes now; take it out of Stale.deviations" in run.failed["TestStale::test_the_timeout_is_kept"]


@pytest.mark.parametrize("mark", ["skip(reason='x')", "xfail", "skipif(True, reason='x')"])
def test_a_test_of_the_kit_cannot_be_marked_away(run_kit: RunKit, mark: str) -> None:
    lines = ["import pytest", "from conformance_cases import RightKit, RightSms", f"@pytest.mark.{mark}"]
    lines += ["class TestMarked(RightKit):", "    provider = 'right'", "    transport = RightSms"]
    run = run_kit(text="\n".join(lines) + "\n")
    assert run.code == pytest.ExitCode.USAGE_ERROR, run.shown
    assert f"is marked {mark.partition('(')[0]}" in run.shown
    assert "deviations" in run.shown


def test_deselected_tests_are_counted_in_the_report(run_kit: RunKit) -> None:
    run = run_kit("TestRight", options=("-k", "test_a_plain_message_arrives_whole"))
    assert run.passed == 1
    assert re.search(r"not run: \d+ deselected", run.shown)


def blocks(page: str) -> list[str]:
    """The Python blocks of a page of the documentation."""
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_test_module_of_the_kits_page_passes(run_kit: RunKit) -> None:
    run = run_kit(text=blocks("plugins/conformance-kit.md")[0])
    assert run.failed == {}, run.shown
    assert run.passed > 80


def test_the_page_on_testing_your_code_runs_under_pytest(tmp_path: Path) -> None:
    with_inbox = [block for block in blocks("how-to/test-your-code.md") if "inbox" in block]
    for number, block in enumerate(with_inbox):
        (tmp_path / f"test_page{number}.py").write_text(block)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100, check=False)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_providers_shows_the_deviations_to_the_users_of_a_provider(command: CommandLine) -> None:
    surroundings = {"PYTHONPATH": str(WRONG), "POSTROOM_PLUGINS": "wrong-excused,right"}
    found = {provider["name"]: provider for provider in command.process("providers", "--json", env=surroundings).json}
    assert found["right"]["channels"]["sms"]["deviations"] == {}
    assert found["wrong-excused"]["channels"]["sms"]["deviations"] == {
        f"{FEATURES}[media]": "Right turns media into links"
    }
    shown = command.process("providers", env=surroundings).out
    assert f"wrong-excused (sms) deviates from the contract: Right turns media into links [{FEATURES}[media]]" in shown
