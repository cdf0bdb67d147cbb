"""The HTTP session that all HTTP transports of one `Postroom` share."""

from __future__ import annotations

import ssl
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import aiohttp


def open_session() -> aiohttp.ClientSession:
    """Return a new session; call it inside the running loop.

    The trusted authorities are the system's, or those of SSL_CERT_FILE. Answers are not decompressed.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=_trusted()),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": f"postroom/{version('postroom')}"},
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    )


def _trusted() -> ssl.SSLContext:
    """Return a context that trusts the system's authorities as they are now."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None:
        return _new_context()  # no file (Windows has a store) that says when it changes
    found = Path(paths.cafile).stat()
    return _read_authorities(paths, found.st_mtime_ns, found.st_ino, found.st_size)


@lru_cache(maxsize=1)
def _read_authorities(*_state: object) -> ssl.SSLContext:
    """Read the authorities, which takes the loop 18 ms: once for all sessions until `_state` is another."""
    return _new_context()


def _new_context() -> ssl.SSLContext:
    """RFC 9525 section 6.3: a name counts only where the certificate lists it, not as its subject's common name."""
    context = ssl.create_default_context()
    context.hostname_checks_common_name = False
    return context
