"""Parsing recipients: the one list `to`, with a `type` for each, into to, cc and bcc."""

from __future__ import annotations

from typing import Any, Literal, get_args

from postroom.gateway.http.errors import Problem

Group = Literal["to", "cc", "bcc"]
GROUPS: tuple[Group, ...] = get_args(Group)

Grouped = dict[Group, list[tuple[str, Any]]]
"""For each group, the address as `Email` takes it, with the path it stood at."""


def parse_recipients(item: dict[str, Any], most: int, problems: list[Problem]) -> Grouped:
    """Return the recipients of an e-mail. Mistakes go to `problems`.

    `to` is a list of `{email, type, name}`; plain addresses, and one recipient instead of a list, are taken
    too. A recipient without `type` is meant by the field it stands in: `to`, or `cc` and `bcc`, which some
    callers write.
    """
    grouped: Grouped = {group: [] for group in GROUPS}
    given = {field: _as_list(item.get(field)) for field in GROUPS}
    if not given["to"] and not given["cc"] and not given["bcc"]:
        problems.append(Problem("to", 'is missing: a list of recipients, such as [{"email": "ann@example.org"}]'))
    count = sum(len(found) for found in given.values())
    if count > most:
        problems.append(Problem("to", f"has {count:,} recipients; at most {most:,} are taken. Send several messages"))
        return grouped
    for field, found in given.items():
        for index, recipient in enumerate(found):
            _group(recipient, field, f"{field}[{index}]", grouped, problems)
    return grouped


def _as_list(given: object) -> list[Any]:
    if given is None or given == "":
        return []
    return given if isinstance(given, list) else [given]


def _group(recipient: object, default: Group, path: str, grouped: Grouped, problems: list[Problem]) -> None:
    if isinstance(recipient, str):
        grouped[default].append((path, recipient))
        return
    if not isinstance(recipient, dict):
        problems.append(Problem(path, "must be an object with email, type and name"))
        return
    kind = recipient.get("type") or default
    group = next((g for g in GROUPS if isinstance(kind, str) and kind.strip().lower() == g), None)
    if group is None:
        problems.append(Problem(f"{path}.type", 'must be "to", "cc" or "bcc"'))
        return
    email, name = recipient.get("email"), recipient.get("name")
    if not isinstance(email, str) or not email.strip():
        problems.append(Problem(f"{path}.email", "is missing" if not email else "must be a text"))
    elif not isinstance(name, (str, type(None))):
        problems.append(Problem(f"{path}.name", "must be a text"))
    else:
        address = {"email": email.strip(), "name": name} if name else email.strip()
        grouped[group].append((f"{path}.email", address))
