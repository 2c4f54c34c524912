from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr, ValidationError

from reverse_etl.config.alerts import EmailChannel, SlackChannel, WebhookChannel
from reverse_etl.daemon import channels
from reverse_etl.daemon.alerts import Alert
from reverse_etl.daemon.channels import Undelivered, lines, send, subject
from reverse_etl.daemon.signature import checked

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
ALERT = Alert(
    "people", "failed", NOW, "people has failed: <no> & nothing", None, "run-1", "source", "look at the warehouse"
)
KEY = "a-key-that-nobody-guesses"


@dataclass
class Hook:
    """A webhook on this machine: what it was sent, and what it answers."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    taken: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"http://127.0.0.1:{self.port}/hook?for=ops")


@pytest.fixture
def hook() -> Iterator[Hook]:
    here = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            here.taken.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(here.status)
            for name, value in here.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            return

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        here.port = port
        yield here


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_slack_gets_text_with_its_three_characters_escaped(hook: Hook) -> None:
    send(SlackChannel(type="slack", url=hook.url), [ALERT], "id", NOW)
    ((path, headers, body),) = hook.taken
    assert (path, headers["content-type"]) == ("/hook?for=ops", "application/json")
    assert json.loads(body) == {
        "text": "failed: people has failed: &lt;no&gt; &amp; nothing Next: look at the warehouse. Run run-1."
    }


def test_S16_a_webhook_gets_json_that_it_can_check(hook: Hook) -> None:
    send(WebhookChannel(type="webhook", url=hook.url, secret=SecretStr(KEY)), [ALERT], "alert-7", NOW)
    ((_, headers, body),) = hook.taken
    assert checked(KEY, headers, body, NOW) == ("alert-7", int(NOW.timestamp()))
    (told,) = json.loads(body)["alerts"]
    assert told == {
        "sync": "people",
        "event": "failed",
        "at": "2026-06-01T12:00:00.000Z",
        "text": "people has failed: <no> & nothing",
        "run_id": "run-1",
        "code": "source",
        "hint": "look at the warehouse",
    }


@pytest.mark.parametrize(
    ("status", "again"), [(301, False), (307, False), (400, False), (404, False), (429, True), (500, True), (503, True)]
)
def test_S11_what_is_no_success_is_none_and_a_redirect_is_not_followed(hook: Hook, status: int, again: bool) -> None:
    hook.status = status
    hook.headers = {"location": f"http://127.0.0.1:{hook.port}/elsewhere"}
    with pytest.raises(Undelivered, match=f"HTTP {status}") as caught:
        send(SlackChannel(type="slack", url=hook.url), [ALERT], "id", NOW)
    assert caught.value.again is again
    assert [path for path, _, _ in hook.taken] == ["/hook?for=ops"]


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.1.1", "::1", "fe80::1%eth0", "fd00:ec2::254"],
)
@pytest.mark.parametrize("first", [True, False])
def test_S11_a_name_with_a_private_address_is_refused_wherever_it_stands(address: str, first: bool) -> None:
    found = [address, "93.184.216.34"] if first else ["93.184.216.34", address]
    channel = SlackChannel(type="slack", url=SecretStr("https://hooks.example.com/x"))
    with pytest.raises(Undelivered, match="address of a private network") as caught:
        send(channel, [ALERT], "id", NOW, lambda host, port: found)
    assert not caught.value.again


def test_S11_the_address_that_was_looked_at_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    connected: list[Any] = []

    def look(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["93.184.216.34"]

    def connect(address: Any, timeout: float) -> Any:
        connected.append(address)
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket, "create_connection", connect)
    channel = SlackChannel(type="slack", url=SecretStr("https://hooks.example.com:8443/x"))
    with pytest.raises(Undelivered, match="can't be reached") as caught:
        send(channel, [ALERT], "id", NOW, look)
    assert (asked, connected, caught.value.again) == (
        [("hooks.example.com", 8443)],
        [("93.184.216.34", 8443)],
        True,
    )


def test_S11_localhost_must_be_this_machine() -> None:
    channel = SlackChannel(type="slack", url=SecretStr("http://localhost:9/x"))
    with pytest.raises(Undelivered, match="private network"):
        send(channel, [ALERT], "id", NOW, lambda host, port: ["93.184.216.34"])


def test_a_name_that_is_not_known_may_be_later() -> None:
    def look(host: str, port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(Undelivered, match="isn't known") as caught:
        send(SlackChannel(type="slack", url=SecretStr("https://hooks.example.com/x")), [ALERT], "id", NOW, look)
    assert caught.value.again


def test_many_alerts_are_one_message_with_the_first_spelt_out() -> None:
    many = [Alert(f"s{number}", "failed", NOW, f"s{number} has failed") for number in range(70)]
    told = lines(many)
    assert len(told) == 21
    assert told[0] == "failed: s0 has failed"
    assert told[-1].startswith("and 50 more: s20 failed, s21 failed, ")
    assert told[-1].endswith("s59 failed...")
    assert subject(many) == "[reverse-etl] s0 failed and 69 more"


# --- mail -------------------------------------------------------------------------------------------------------------


class Mailroom(socketserver.StreamRequestHandler):
    """An SMTP server that takes every mail, or refuses with `answers`."""

    taken: ClassVar[list[bytes]] = []
    answers: ClassVar[dict[bytes, bytes]] = {}

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            verb = line.split()[0].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self.taken.append(b"".join(iter(self.rfile.readline, b".\r\n")))
            usual = b"221 bye" if verb == b"QUIT" else b"250 ok"
            self.wfile.write(self.answers.get(verb, usual) + b"\r\n")
            if verb == b"QUIT":
                return


@pytest.fixture
def mailroom() -> Iterator[Callable[..., EmailChannel]]:
    Mailroom.taken.clear()
    Mailroom.answers.clear()
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailroom)) as port:
        yield lambda **more: EmailChannel(
            **{
                "type": "email",
                "host": "127.0.0.1",
                "port": port,
                "security": "none",
                "sender": "etl@example.com",
                "to": ["ops@example.com", "lead@example.com"],
                **more,
            }
        )


def test_a_mail_says_it_in_its_subject(mailroom: Callable[..., EmailChannel]) -> None:
    send(mailroom(), [ALERT], "id", NOW)
    mail = message_from_bytes(Mailroom.taken[0])
    assert (mail["Subject"], mail["From"], mail["To"]) == (
        "[reverse-etl] people failed",
        "etl@example.com",
        "ops@example.com, lead@example.com",
    )
    assert "people has failed: <no> & nothing Next: look at the warehouse." in str(mail.get_payload())


@pytest.mark.parametrize(
    ("verb", "answer", "again"),
    [(b"MAIL", b"550 no", False), (b"MAIL", b"451 later", True), (b"RCPT", b"550 nobody", False)],
)
def test_a_mail_that_is_refused_is_not_delivered(
    mailroom: Callable[..., EmailChannel], verb: bytes, answer: bytes, again: bool
) -> None:
    Mailroom.answers[verb] = answer
    with pytest.raises(Undelivered) as caught:
        send(mailroom(), [ALERT], "id", NOW)
    assert caught.value.again is again


def test_a_bad_farewell_does_not_send_a_mail_again(mailroom: Callable[..., EmailChannel]) -> None:
    Mailroom.answers[b"QUIT"] = b"421 gone"
    send(mailroom(), [ALERT], "id", NOW)
    assert len(Mailroom.taken) == 1


def test_S17_a_server_without_protection_gets_no_mail_that_asks_for_it(mailroom: Callable[..., EmailChannel]) -> None:
    with pytest.raises(Undelivered):
        send(mailroom(security="starttls"), [ALERT], "id", NOW)
    assert Mailroom.taken == []


def test_S17_a_password_never_travels_unprotected() -> None:
    with pytest.raises(ValidationError, match="a password needs a protected connection"):
        EmailChannel(
            type="email",
            host="mail.example.com",
            security="none",
            username="etl",
            password=SecretStr("hunter2"),
            sender="a@b.c",
            to=["d@e.f"],
        )


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[tuple[int, Path, list[bytes]]]:
    """A server that shows a certificate for hooks.example.com: its port, the certificate, and what it was sent."""
    certificate, key = _certificate(tmp_path, "hooks.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    taken: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                with context.wrap_socket(self.request, server_side=True) as wrapped:
                    said = b"".join(iter(lambda: wrapped.recv(1), b"}"))
                    taken.append(said)
                    wrapped.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            except OSError:
                return  # who doesn't trust the certificate hangs up

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, certificate, taken


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    places = folder / "certificate.pem", folder / "key.pem"
    places[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    places[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return places


def secret_message(port: int, monkeypatch: pytest.MonkeyPatch, host: str = "hooks.example.com") -> None:
    """An alert to a public name whose checked address is, for this test, one of this machine."""
    monkeypatch.setattr(channels, "is_public", lambda address: True)
    channel = SlackChannel(type="slack", url=SecretStr(f"https://{host}:{port}/services/secret"))
    send(channel, [ALERT], "id", NOW, lambda host, port: ["127.0.0.1"])


def test_S11_tls_is_spoken_to_the_name_at_the_address_that_was_checked(
    certified: tuple[int, Path, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, certificate, taken = certified
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secret_message(port, monkeypatch)
    assert taken[0].startswith(b"POST /services/secret HTTP/1.1\r\n")
    assert f"Host: hooks.example.com:{port}\r\n".encode() in taken[0]


@pytest.mark.parametrize(("trusted", "host"), [(False, "hooks.example.com"), (True, "other.example.com")])
def test_S17_a_certificate_that_is_not_trusted_or_of_another_name_gets_nothing(
    certified: tuple[int, Path, list[bytes]], monkeypatch: pytest.MonkeyPatch, trusted: bool, host: str
) -> None:
    port, certificate, taken = certified
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(Undelivered, match="shows no certificate") as caught:
        secret_message(port, monkeypatch, host)
    assert (taken, caught.value.again) == ([], False)
