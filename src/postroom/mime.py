"""An e-mail as the bytes that travel: MIME with CRLF lines of at most 998 octets, and never a Bcc header."""

from __future__ import annotations
