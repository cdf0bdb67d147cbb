"""The PostgreSQL engine of the outbox: one database, any number of machines."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit


class Location:
    """Where the outbox is: `dsn` for libpq's words, the `schema`, and `shown`, which holds no password.

    `channel` is the one of its notifications.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.schema = query.pop("schema", "postroom")
        self.channel = f"postroom_{self.schema}"
        self.dsn = urlunsplit(parts._replace(query=urlencode(query)))
        host = parts.netloc.rpartition("@")[2]
        self.shown = f"{parts.scheme}://{host}{parts.path}, schema {self.schema}"
