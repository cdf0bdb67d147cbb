"""A real Postfix on loopback takes what the SMTP plugin sends, and stores it to the byte."""

from __future__ import annotations

import asyncio
import email as email_parser
import email.policy
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from postroom import Attachment, Email, Postroom
from postroom.errors import AuthenticationFailed, RecipientsRefused
from postroom.mime import needs_smtputf8
from postroom.plugin import Resources
from postroom_smtp.connector import Connector
from postroom_smtp.envelope import prepare
from postroom_smtp.errors import SmtpErrors
from postroom_smtp.pool import Pool
from postroom_smtp.settings import SmtpSettings
from postroom_smtp.timeouts import Timeouts
from postroom_smtp.transport import SmtpEmail

if TYPE_CHECKING:
    from tests.conftest import Finished

USER, PASSWORD, REALM = "ann", "correct-horse", "post.example.org"

pytestmark = pytest.mark.system("postfix")

OpenAccount = Callable[..., Awaitable[SmtpEmail]]
OpenPool = Callable[[str], Pool]

MAIN = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/log/mail.log
maillog_file_prefixes = {home}/log
myhostname = post.example.org
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
virtual_mailbox_domains = example.org, xn--bcher-kva.example.org, bücher.example.org
virtual_mailbox_base = {home}/mail
virtual_mailbox_maps = inline:{{{{ann@example.org = inbox/}}, {{jörg@bücher.example.org = inbox/}}, {{bob@example.org = inbox/}}}}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
message_size_limit = 30000000
smtpd_tls_cert_file = {home}/server.pem
smtpd_tls_key_file = {home}/server.key
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_local_domain = {realm}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = reject_unlisted_recipient
"""
MASTER = """
127.0.0.1:{starttls} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt
127.0.0.1:{implicit} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Postfix:
    home: Path
    starttls: int
    implicit: int

    def port(self, tls: str) -> int:
        return self.starttls if tls == "starttls" else self.implicit

    async def arrived(self, message_id: str | None) -> bytes:
        """Wait for the message and take it out of the mailbox; Maildir has no event to wait for."""
        assert message_id
        folder = self.home / "mail" / "inbox" / "new"
        async with asyncio.timeout(90):
            while True:
                for path in folder.glob("*"):
                    content = path.read_bytes()
                    if message_id.encode() in content:
                        path.unlink()
                        return content
                await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def postfix() -> Iterator[Postfix]:
    home = Path(tempfile.mkdtemp(prefix="postfix-", dir="/tmp"))  # Postfix's own users must be able to enter
    home.chmod(0o755)
    instance = Postfix(home, *_free_ports(2))
    try:
        _write_configuration(instance)
        _run("postfix", "-c", str(home / "etc"), "start")
        try:
            yield instance
        finally:
            _run("postfix", "-c", str(home / "etc"), "stop")
    finally:
        shutil.rmtree(home)


def _write_configuration(instance: Postfix) -> None:
    home, nobody, owner = instance.home, pwd.getpwnam("nobody"), pwd.getpwnam("postfix")
    for folder in ("etc", "queue", "data", "mail", "log", "sasl"):
        (home / folder).mkdir(mode=0o755)
    os.chown(home / "data", owner.pw_uid, owner.pw_gid)
    os.chown(home / "mail", nobody.pw_uid, nobody.pw_gid)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(home / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(str(home / "server.key"))
    (home / "server.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    values = {"home": home, "uid": nobody.pw_uid, "gid": nobody.pw_gid, "realm": REALM}
    (home / "etc" / "main.cf").write_text(MAIN.format(**values), encoding="utf-8")
    master = MASTER.format(starttls=instance.starttls, implicit=instance.implicit)
    (home / "etc" / "master.cf").write_text(master, encoding="utf-8")
    # Debian's Postfix looks for it below its configuration directory.
    (home / "etc" / "sasl").mkdir()
    (home / "etc" / "sasl" / "smtpd.conf").write_text(
        f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nsasldb_path: {home}/sasl/sasldb2\n"
    )
    _run("saslpasswd2", "-p", "-c", "-f", f"{home}/sasl/sasldb2", "-u", REALM, USER, given=PASSWORD)
    os.chown(home / "sasl" / "sasldb2", owner.pw_uid, owner.pw_gid)


def _run(*command: str, given: str = "") -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"{command[0]} failed: {done.stdout}{done.stderr}"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


@pytest.fixture
async def open_account(postfix: Postfix, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenAccount]:
    monkeypatch.setenv("SSL_CERT_FILE", str(postfix.home / "ca.pem"))
    opened: list[SmtpEmail] = []

    async def open_account(tls: str, password: str = PASSWORD) -> SmtpEmail:
        settings = SmtpSettings(
            host="127.0.0.1", port=postfix.port(tls), tls=tls, username=f"{USER}@{REALM}", password=password, timeout=60
        )
        account = SmtpEmail("post", settings, Resources())
        await account.open()
        opened.append(account)
        return account

    yield open_account
    for account in opened:
        await account.close()


@pytest.fixture
async def open_pool(postfix: Postfix) -> AsyncIterator[OpenPool]:
    """Pools that take prepared messages, since MIME boundaries and dates differ each time a message is prepared."""
    pools: list[Pool] = []

    def open_pool(tls: str) -> Pool:
        settings = SmtpSettings(
            host="127.0.0.1", port=postfix.port(tls), tls=tls, username=f"{USER}@{REALM}", password=PASSWORD
        )
        errors = SmtpErrors("post", settings)
        context = ssl.create_default_context(cafile=postfix.home / "ca.pem")
        pools.append(Pool(1, Connector(settings, errors, context).connect, errors, Timeouts(message=10)))
        return pools[-1]

    yield open_pool
    for pool in pools:
        await pool.close()


def _stored(content: bytes) -> bytes:
    """What Postfix stored, with CRLF, and without the trace headers it put in front."""
    text = content.replace(b"\n", b"\r\n")
    while text.split(b":")[0].lower() in (b"return-path", b"x-original-to", b"delivered-to", b"received"):
        end = text.index(b"\r\n") + 2
        while text[end : end + 1] in (b" ", b"\t"):
            end = text.index(b"\r\n", end) + 2
        text = text[end:]
    return text


def _rich(number: str, **fields: Any) -> Email:
    given = {
        "to": ["Ann <ann@example.org>"],
        "cc": ["Łukasz Żółć <bob@example.org>"],
        "bcc": ["bob@example.org"],
        "from": "Post Büro <post@example.org>",
        "subject": "Grüße aus Köln, “quoted” and € 5",
        "text": "Plain.\n.\n..two dots\nÜber lines\n" + "long " * 400 + "\nlast\n",
        "html": '<p>Häl<b>lo</b> <img src="cid:logo"></p>\n.\n',
        "attachments": (
            Attachment(filename="logo.png", content=bytes(range(256)) * 40, inline=True, content_id="logo"),
            Attachment(filename="Übersicht.pdf", content=b"%PDF-1.7\r\n.\r\n" + os.urandom(50_000)),
        ),
        "headers": {"X-Purpose": "test"},
        "id": "0" * 32,
        "message_id": f"<{number}@example.org>",
        **fields,
    }
    return Email(**given)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_rich_message_arrives_to_the_byte(postfix: Postfix, open_pool: OpenPool, tls: str) -> None:
    email = _rich(f"rich-{tls}")
    pool, message = open_pool(tls), prepare(email, None)
    accepted = await pool.deliver(message)
    assert accepted.recipients == ()
    assert "queued as" in (accepted.detail or "")
    assert _stored(await postfix.arrived(email.message_id)) == _unstuffed(message.content)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_an_international_address_arrives_to_the_byte(postfix: Postfix, open_pool: OpenPool, tls: str) -> None:
    email = _rich(f"utf8-{tls}", to=["Jörg <jörg@bücher.example.org>"], cc=[], bcc=[])
    assert needs_smtputf8(email)
    pool, message = open_pool(tls), prepare(email, None)
    await pool.deliver(message)
    assert _stored(await postfix.arrived(email.message_id)) == _unstuffed(message.content)


def _unstuffed(content: bytes) -> bytes:
    return content.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")


async def test_a_hundred_messages_arrive_once_each(postfix: Postfix, open_account: OpenAccount) -> None:
    account = await open_account("starttls")
    emails = [
        Email(
            to="ann@example.org",
            **{"from": "post@example.org"},
            subject=f"{n}",
            text=f"Body {n}\n",
            id=f"{n:032x}",
            message_id=f"<many-{n}@example.org>",
        )
        for n in range(100)
    ]
    await asyncio.gather(*(account.send(email) for email in emails))
    for sent in emails:
        await postfix.arrived(sent.message_id)
    left = (postfix.home / "mail" / "inbox" / "new").glob("*")
    assert not [path for path in left if b"<many-" in path.read_bytes()]


async def test_an_unknown_recipient_is_refused_by_name(postfix: Postfix, open_account: OpenAccount) -> None:
    account = await open_account("starttls")
    email = _rich("refused", to=["nobody@example.org"], cc=[], bcc=[])
    with pytest.raises(RecipientsRefused) as caught:
        await account.send(email)
    assert (caught.value.status, caught.value.provider_code) == (550, "5.1.1")
    again = _rich("partly", to=["nobody@example.org", "ann@example.org"], cc=[], bcc=[])
    accepted = await account.send(again)
    assert [result.outcome for result in accepted.recipients] == ["permanent", "accepted"]
    await postfix.arrived(again.message_id)


async def test_a_wrong_password_is_refused(postfix: Postfix, open_account: OpenAccount) -> None:
    account = await open_account("starttls", password="wrong-horse")
    with pytest.raises(AuthenticationFailed) as caught:
        await account.send(_rich("never"))
    assert caught.value.status == 535
    assert "wrong-horse" not in str(caught.value)


async def test_check_finds_postfix_ready(postfix: Postfix, open_account: OpenAccount) -> None:
    report = await (await open_account("implicit")).check()
    assert report.ok
    assert "Postfix" in report.details["banner"]
    assert {"PIPELINING", "SMTPUTF8", "DSN"} <= set(report.details["extensions"].split(", "))


async def test_the_core_sends_through_postfix(postfix: Postfix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(postfix.home / "ca.pem"))
    account = {
        "provider": "smtp",
        "host": "127.0.0.1",
        "port": postfix.starttls,
        "username": f"{USER}@{REALM}",
        "password": PASSWORD,
        "from": "Post <post@example.org>",
    }
    async with Postroom(accounts={"main": account}) as post:
        receipt = await post.send(Email(to="ann@example.org", subject="Core", text="Through the core.\n"))
    assert receipt.status == "sent"
    assert b"Through the core." in await postfix.arrived(receipt.message_id)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_the_command_line_sends_every_part_through_postfix(
    postfix: Postfix, cli: Callable[..., Finished], tmp_path: Path, tls: str
) -> None:
    picture, report = bytes(range(256)) * 20, os.urandom(40_000)
    (tmp_path / "logo.png").write_bytes(picture)
    (tmp_path / "Übersicht.pdf").write_bytes(report)
    (tmp_path / "postroom.toml").write_text(
        f"""
        [accounts.main]
        provider = "smtp"
        host = "127.0.0.1"
        port = {postfix.port(tls)}
        tls = "{tls}"
        username = "{USER}@{REALM}"
        password = {{ env = "POST_PASSWORD" }}
        from = "Post Büro <post@example.org>"
        """
    )
    done = await asyncio.to_thread(
        cli,
        *("send", "email", "--to", "Łukasz Żółć <ann@example.org>", "--bcc", "bob@example.org"),
        *("--subject", "Grüße aus Köln", "--text", "Über\n.\n..dots\n", "--html", '<img src="cid:logo.png">\n.\n'),
        *("--inline", "logo.png", "--attach", "Übersicht.pdf", "--json"),
        env={"SSL_CERT_FILE": str(postfix.home / "ca.pem"), "POST_PASSWORD": PASSWORD},
    )
    assert done.code == 0, done.everything
    assert PASSWORD not in done.everything

    found = email_parser.message_from_bytes(
        await postfix.arrived(done.json["message_id"]), policy=email_parser.policy.default
    )
    parts = {part.get_filename() or part.get_content_type(): part for part in found.walk() if not part.is_multipart()}
    assert (found["Subject"], str(found["To"]), found["Bcc"]) == (
        "Grüße aus Köln",
        "Łukasz Żółć <ann@example.org>",
        None,
    )
    assert parts["text/plain"].get_content().replace("\r\n", "\n") == "Über\n.\n..dots\n"
    assert parts["text/html"].get_content().replace("\r\n", "\n") == '<img src="cid:logo.png">\n.\n'
    assert parts["logo.png"].get_content() == picture
    assert parts["Übersicht.pdf"].get_content() == report
