"""Alerts on their way out: to Slack, to a webhook of one's own, by mail. Blocking, for a worker thread.

A webhook's name is looked up once, every address it has must be public, and the connection goes to the very address
that was looked at. Redirects are not followed; an answer's body is read only to be thrown away.
"""

from __future__ import annotations

import http.client
import json
import smtplib
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from email.message import EmailMessage
from ipaddress import ip_address
from typing import assert_never
from urllib.parse import urlsplit

from reverse_etl.config.alerts import Channel, EmailChannel, SlackChannel, WebhookChannel
from reverse_etl.daemon.alerts import Alert
from reverse_etl.daemon.signature import signed
from reverse_etl.urls import checked_webhook, is_loopback, is_public

PATIENCE_SECONDS = 10.0
MOST_ANSWER = 64 * 1024
MOST_LINES = 20
WORTH_ANOTHER_TRY = frozenset({408, 425, 429})
MAIL_PORTS: Mapping[str, int] = {"starttls": 587, "tls": 465, "none": 25}

Look = Callable[[str, int], Sequence[str]]


class Undelivered(Exception):
    """A message that didn't arrive; `again`: it may, later."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


def look_up(host: str, port: int) -> list[str]:
    """The addresses of a name, best first."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def send(channel: Channel, alerts: Sequence[Alert], message_id: str, now: datetime, look: Look = look_up) -> None:
    """One message with these alerts. Raises Undelivered."""
    if isinstance(channel, SlackChannel):
        text = "\n".join(_slack(line) for line in lines(alerts))
        _post(channel.url.get_secret_value(), json.dumps({"text": text}).encode(), {}, look)
    elif isinstance(channel, WebhookChannel):
        body = json.dumps({"type": "alerts", "alerts": [alert.to_json() for alert in alerts]}).encode()
        secret = channel.secret
        headers = signed(secret.get_secret_value(), message_id, now, body) if secret is not None else {}
        _post(channel.url.get_secret_value(), body, headers, look)
    elif isinstance(channel, EmailChannel):
        _mail(channel, alerts)
    else:
        assert_never(channel)


def subject(alerts: Sequence[Alert]) -> str:
    first = alerts[0]
    others = f" and {len(alerts) - 1} more" if len(alerts) > 1 else ""
    return f"[reverse-etl] {first.sync} {first.event}{others}"


def lines(alerts: Sequence[Alert]) -> list[str]:
    """One line an alert, as a person reads it; of many only the first are spelt out."""
    told = [_line(alert) for alert in alerts[:MOST_LINES]]
    if len(alerts) > MOST_LINES:
        rest = ", ".join(f"{alert.sync} {alert.event}" for alert in alerts[MOST_LINES : 3 * MOST_LINES])
        told.append(f"and {len(alerts) - MOST_LINES} more: {rest}" + ("..." if len(alerts) > 3 * MOST_LINES else ""))
    return told


def _line(alert: Alert) -> str:
    parts = [f"{alert.event}: {alert.text}"]
    parts += [f"Next: {alert.hint}."] if alert.hint else []
    parts += [f"Run {alert.run_id}."] if alert.run_id else []
    return " ".join(parts)


def _slack(text: str) -> str:
    """Slack's three characters: https://docs.slack.dev/messaging/formatting-message-text, read 2026-11."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --- webhooks ---------------------------------------------------------------------------------------------------------


def _post(url: str, body: bytes, headers: Mapping[str, str], look: Look) -> None:
    parts = urlsplit(checked_webhook(url))
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    connection = _Pinned(host, port, _address(host, port, look), encrypted=parts.scheme == "https")
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    sent = {"content-type": "application/json", "user-agent": "reverse-etl", **headers}
    try:
        connection.request("POST", path, body=body, headers=sent)
        with connection.getresponse() as answer:
            answer.read(MOST_ANSWER)
    except ssl.SSLCertVerificationError as failure:
        raise Undelivered(
            f"{host} shows no certificate for that name: {failure.verify_message}", again=False
        ) from failure
    except (OSError, http.client.HTTPException) as failure:
        raise Undelivered(f"{host} can't be reached: {failure or type(failure).__name__}", again=True) from failure
    finally:
        connection.close()
    if 300 <= answer.status < 400:
        raise Undelivered(f"{host} says that it has moved (HTTP {answer.status}); that isn't followed", again=False)
    if not 200 <= answer.status < 300:
        again = answer.status >= 500 or answer.status in WORTH_ANOTHER_TRY
        raise Undelivered(f"{host} has refused it (HTTP {answer.status})", again=again)


def _address(host: str, port: int, look: Look) -> str:
    """The address that is connected to. Every one the name has must do: which of them answers is chance."""
    try:
        found = look(host, port)
    except OSError as failure:
        raise Undelivered(f"{host} isn't known: {failure.strerror or failure}", again=True) from failure
    here = is_loopback(host)
    for each in found:
        address = ip_address(each.partition("%")[0])
        if not (address.is_loopback if here else is_public(address)):
            raise Undelivered(f"{host} is an address of a private network ({address}): refused", again=False)
    if not found:
        raise Undelivered(f"{host} has no address", again=True)
    return found[0]


class _Pinned(http.client.HTTPConnection):
    """Connects to the address that was looked at, and speaks to the name: in TLS, and in the request."""

    def __init__(self, host: str, port: int, address: str, *, encrypted: bool) -> None:
        super().__init__(host, port, timeout=PATIENCE_SECONDS)
        self._address = address
        self._encrypted = encrypted
        if encrypted:
            self.default_port = 443

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), PATIENCE_SECONDS)
        if self._encrypted:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


# --- mail -------------------------------------------------------------------------------------------------------------


def _mail(channel: EmailChannel, alerts: Sequence[Alert]) -> None:
    message = EmailMessage()
    message["Subject"] = subject(alerts)
    message["From"] = channel.sender
    message["To"] = ", ".join(channel.to)
    message.set_content("\n\n".join(lines(alerts)) + "\n")
    port = channel.port or MAIL_PORTS[channel.security]
    try:
        with closing(_mail_server(channel, port)) as server:
            if channel.username is not None:
                password = channel.password.get_secret_value() if channel.password is not None else ""
                server.login(channel.username, password)
            server.send_message(message)
            with suppress(OSError, smtplib.SMTPException):  # it has taken the mail: a bad farewell changes nothing
                server.quit()
    except smtplib.SMTPResponseException as failure:  # its text may repeat what was sent
        again = 400 <= failure.smtp_code < 500
        raise Undelivered(f"{channel.host} has refused the mail (SMTP {failure.smtp_code})", again=again) from failure
    except smtplib.SMTPRecipientsRefused as failure:
        raise Undelivered(f"{channel.host} takes no mail for these addresses", again=False) from failure
    except (OSError, smtplib.SMTPException) as failure:
        raise Undelivered(f"{channel.host}:{port} can't be used: {failure}", again=True) from failure


def _mail_server(channel: EmailChannel, port: int) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if channel.security == "tls":
        return smtplib.SMTP_SSL(channel.host, port, timeout=PATIENCE_SECONDS, context=context)
    server = smtplib.SMTP(channel.host, port, timeout=PATIENCE_SECONDS)
    if channel.security == "starttls":
        try:
            server.starttls(context=context)
        except (OSError, smtplib.SMTPException):
            server.close()
            raise
    return server
