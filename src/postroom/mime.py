"""An e-mail as the bytes that travel: MIME with CRLF lines of at most 998 octets, and never a Bcc header."""

from __future__ import annotations

import re
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from postroom.errors import MessageError

if TYPE_CHECKING:
    from postroom.addresses import Address
    from postroom.messages import Attachment, Email
