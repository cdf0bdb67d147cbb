"""The guides' plugins, packaged as the guides say and used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def code(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def entry_points(page: str) -> dict[str, str]:
    (found,) = [block for block in code(page, "toml") if "entry-points" in block]
    given: dict[str, str] = tomllib.loads(found)["project"]["entry-points"]["postroom"]
    return given


def test_the_provider_of_the_guide_sends_and_tells_what_went_wrong(site: Any) -> None:
    (module,) = code("docs/plugins/writing-a-provider.md", "python")
    providers = entry_points("docs/plugins/writing-a-provider.md")
    assert providers == entry_points("README.md")
    site.add("postroom-acme", providers=providers, modules={"postroom_acme": module})

    sent, request, refused = site.python(
        """
        import asyncio, json
        from postroom import Postroom, Sms
        from postroom.testing.http import Answer, HttpRecorder

        SMS = Sms(to="+442079460958", from_="Shop", body="Hello", provider="acme", media=["https://example.org/a.png"])

        async def main():
            async with HttpRecorder() as server:
                server.answer(Answer(body={"id": "A1"}), Answer(400, {"code": "E7", "message": "no"}), Answer(body={}))
                account = {"provider": "acme", "api_key": "secret", "base_url": server.url}
                async with Postroom(accounts={"texts": account}) as room:
                    receipt = await room.send(SMS)
                    errors = [await room.send_many([SMS]) for _ in range(2)]
                    seen = server.requests[0]
                    told = [type(e).__name__ + ": " + str(e.provider_code) for (e,) in errors]
                    print(json.dumps([receipt.provider_message_id, [seen.path, seen.json()], told]))

        asyncio.run(main())
        """
    )
    assert sent == "A1"
    media = ["https://example.org/a.png"]
    assert request == ["/v1/sms", {"to": "+442079460958", "from": "Shop", "text": "Hello", "media": media}]
    assert refused == ["MessageRejected: E7", "UnexpectedResponse: None"]


def test_the_extensions_of_the_guide_observe_and_gate(site: Any) -> None:
    observer, gate, _ = code("docs/how-to/extensions.md", "python")
    site.add("audit", extensions={"audit": "audit"}, modules={"audit": observer})
    site.add("office-hours", extensions={"office-hours": "office_hours"}, modules={"office_hours": gate})
    (chosen,) = code("docs/how-to/extensions.md", "toml")
    account = '[accounts.main]\nprovider = "memory"\nfrom = "post@example.org"\n'
    (site.folder / "postroom.toml").write_text(chosen + account)

    observed, refusal, taken = site.python(
        """
        import contextlib, io, json
        from postroom import Email, MessageError, SyncPostroom

        printed = io.StringIO()
        with SyncPostroom.from_config() as room, contextlib.redirect_stdout(printed):
            room.send(Email(to="ann@example.org", text="Hello"))
            try:
                room.send(Email(to="ann@example.org", text="Buy!", category="marketing"))
            except MessageError as error:
                refusal = str(error)
        print(json.dumps([printed.getvalue().split()[::2], refusal, len(room.memory)]))
        """
    )
    assert observed == ["sent", "main"]
    assert refusal == "no marketing through main; nothing was sent"
    assert taken == 1


def test_the_choice_between_two_claimants_is_made_as_the_page_says(site: Any) -> None:
    site.add("other-smtp", providers={"smtp": "other_smtp"}, modules={"other_smtp": "raise SystemExit"})
    choice, _ = code("docs/explanation/plugins.md", "toml")
    (site.folder / "postroom.toml").write_text(choice)

    unchosen, chosen = site.python(
        """
        import json
        from postroom import PluginConflict, Postroom
        from postroom.registry.registry import Registry

        try:
            Registry().channels("smtp")
        except PluginConflict as error:
            print(json.dumps([str(error), Postroom.from_config().registry.channels("smtp")]))
        """
    )
    assert "other-smtp" in unchosen
    assert "postroom-smtp" in unchosen
    assert chosen == ["email"]
