"""`python -m ordeal.shop postroom.toml DATABASE TABLE`: save orders without end, each with its message, and print them.

Every order is a row in TABLE by the id of its message. Each fourth transaction is rolled back.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
from typing import Any

import psycopg

from postroom import Email, SyncPostroom
from postroom.messages import new_id


def main(config: str, database: str, table: str) -> None:
    connection: Any = psycopg.connect(database) if database.startswith("postgres") else sqlite3.connect(database)
    with SyncPostroom.from_config(config) as room:
        number = 0
        while True:
            number += 1
            orders = [new_id() for _ in range(random.randint(1, 4))]
            for id_ in orders:
                connection.execute(f"INSERT INTO {table} VALUES ('{id_}')")
                message = Email(id=id_, to="ann@example.org", text="x" * 10_000, idempotency_key=id_)
                room.enqueue(message, connection=connection)
            if number % 4 == 0:
                connection.rollback()
                continue
            connection.commit()
            os.write(1, "".join(f'"{id_}"\n' for id_ in orders).encode())


main(*sys.argv[1:])
