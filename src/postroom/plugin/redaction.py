"""Redaction: secrets taken out of texts that are shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN_LENGTH = 300

_MARKED = 3
"""Characters up to which a text is no secret: replacing a letter or two would leave no word of an error readable."""

_WITHIN_WORDS = 8
"""Characters from which a secret is taken out wherever it stands; a shorter one only where it stands by itself."""


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return `text` on one line, at most 300 characters of it, with `***` for every one of `secrets`.

    One of up to seven characters is replaced where no letter or digit stands beside it, one of up to three never:
    such as those are parts of ordinary words.
    """
    for secret in sorted({secret for secret in secrets if len(secret) > _MARKED}, key=len, reverse=True):
        if len(secret) >= _WITHIN_WORDS:
            text = text.replace(secret, "***")
        elif secret in text:
            text = re.sub(rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])", "***", text)
    return re.sub(r"\s+", " ", text).strip()[:_SHOWN_LENGTH]
