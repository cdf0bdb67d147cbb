from __future__ import annotations

import os

import pytest

OF_PROVIDERS = ("POSTROOM_", "TWILIO_", "VONAGE_", "SENDGRID_", "SMTP_")
SECRETS = (
    "SMTP_PASSWORD",
    "SMTP_BOUNCE_SECRET",
    "SMTP_RETURN_PATH_SECRET",
    "SENDGRID_API_KEY",
    "TWILIO_AUTH_TOKEN",
    "TWILIO_API_SECRET",
    "VONAGE_API_SECRET",
    "VONAGE_SIGNATURE_SECRET",
    "VONAGE_PRIVATE_KEY",
    "HUB_KEY",
)


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that the pages' configurations take their secrets from, and no others of ours."""
    for name in list(os.environ):
        if name.startswith(OF_PROVIDERS):
            monkeypatch.delenv(name)
    for name in SECRETS:
        monkeypatch.setenv(name, "the-secret-of-all-the-pages-is-long")
