"""The HTTP session that all HTTP transports of one `Postroom` share."""

from __future__ import annotations

import ssl
from importlib.metadata import version

import aiohttp


def open_session() -> aiohttp.ClientSession:
    """Return a new session; call it inside the running loop.

    The trusted authorities are the system's, or those of SSL_CERT_FILE. Answers are not decompressed.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context()),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": f"postroom/{version('postroom')}"},
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    )
