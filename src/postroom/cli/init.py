"""`postroom init`: a first configuration file to fill in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from postroom.cli.output import UsageError, reporting_errors, show_text

STARTER = """\
# postroom's configuration. It works as it is: messages are printed, not sent.
# Any value may come from the environment instead: POSTROOM_ACCOUNTS__MAIN__PASSWORD=...
# and any secret from a variable or a file: { env = "NAME" } or { file = "/run/secrets/name" }.

[defaults]
email = "screen"                    # a route, an account or a provider
sms = "screen"

[accounts.screen]
provider = "console"                # prints messages to standard error
from = "Post Room <post@example.org>"

# [accounts.main]
# provider = "smtp"                 # pip install 'postroom[smtp]'
# host = "smtp.example.org"
# port = 587
# username = "post"
# password = { env = "SMTP_PASSWORD" }
# from = "Post Room <post@example.org>"
# rate = "50/s"                     # never more than this
# concurrency = 1000                # messages under way at once

# [accounts.sg]
# provider = "sendgrid"             # pip install 'postroom[sendgrid]'
# api_key = { env = "SENDGRID_API_KEY" }
# from = "Post Room <post@example.org>"

# [accounts.texts]
# provider = "twilio"               # pip install 'postroom[twilio]'
# account_sid = "AC..."
# auth_token = { env = "TWILIO_AUTH_TOKEN" }
# from = "+15005550006"

# [routes.careful]                  # a name over several accounts
# strategy = "failover"             # or round_robin, weighted
# via = ["main", "sg"]

# [[rules]]                         # for messages that name no provider; the first match wins
# channel = "sms"
# country = ["GB", "IE"]
# use = "texts"

# [outbox]                          # where enqueued and required messages wait for `postroom worker`
# url = "sqlite:////var/lib/postroom/postroom.db"
# expires_after = "3d"              # how long a message is tried
# retention = "7d"                  # how long the text of a settled one is kept
"""


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("postroom.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented configuration to start from."""
    with reporting_errors():
        try:
            with path.open("w" if force else "x", encoding="utf-8") as file:
                file.write(STARTER)
        except FileExistsError:
            raise UsageError(f"{path} is there already; name another file, or replace it with --force") from None
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from None
    show_text(f"wrote {path}; try it: postroom send sms --to +442079460958 --body Hello")
