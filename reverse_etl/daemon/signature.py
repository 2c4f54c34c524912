"""Signed messages: HMAC-SHA256 over `id.time.body`, as Standard Webhooks has it, both for what is sent and what comes.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, read 2026-11.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime

ID, TIME, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_SECONDS = 300  # how far a message's time may be from ours, either way
_VERSION = "v1"
_ENCODED = "whsec_"  # what follows is the key in Base64
_LONGEST_ID = 256


class BadSignature(Exception):
    """A message that isn't taken; `code` and the text say why, without saying what would have been right."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def signed(key: str, message_id: str, moment: datetime, body: bytes) -> dict[str, str]:
    """The headers that go with a body."""
    seconds = str(int(moment.timestamp()))
    return {ID: message_id, TIME: seconds, SIGNATURE: f"{_VERSION},{_digest(key, message_id, seconds, body)}"}


def checked(key: str, headers: Mapping[str, str], body: bytes, now: datetime) -> tuple[str, int]:
    """The message's id and time. Raises BadSignature; whether the id has been used before is for the caller to know."""
    message_id, seconds, given = (headers.get(name, "") for name in (ID, TIME, SIGNATURE))
    if not message_id or not seconds or not given:
        raise BadSignature("unsigned", f"a request to run a sync is signed: {ID}, {TIME} and {SIGNATURE} are needed")
    if len(message_id) > _LONGEST_ID or not message_id.isprintable() or "." in message_id:
        raise BadSignature("bad_signature", f"{ID} should be short, and hold no dot")
    if not (seconds.isascii() and seconds.isdecimal()) or abs(now.timestamp() - int(seconds[:12])) > TOLERANCE_SECONDS:
        raise BadSignature("bad_time", f"{TIME} should be the time in seconds, at most five minutes from now")
    right = _digest(key, message_id, seconds, body).encode()
    offered = [part.partition(",") for part in given.split(" ")]
    # Every one is compared, each in constant time: an answer's speed tells nothing.
    matches = [hmac.compare_digest(right, value.encode()) for version, _, value in offered if version == _VERSION]
    if not any(matches):
        raise BadSignature("bad_signature", "the signature doesn't fit the request: check key, id, time and body")
    return message_id, int(seconds)


def _digest(key: str, message_id: str, seconds: str, body: bytes) -> str:
    content = f"{message_id}.{seconds}.".encode() + body
    return base64.b64encode(hmac.new(_key(key), content, hashlib.sha256).digest()).decode()


def _key(written: str) -> bytes:
    if written.startswith(_ENCODED):
        try:
            return base64.b64decode(written.removeprefix(_ENCODED), validate=True)
        except binascii.Error:
            return written.encode()
    return written.encode()


class Used:
    """Ids of messages that have been taken, as long as their signature would still be good."""

    def __init__(self, before: Mapping[str, int]) -> None:
        self._ids = dict(before)

    def recall(self, before: Mapping[str, int]) -> None:
        """What another daemon has taken."""
        self._ids = dict(before)

    def take(self, message_id: str, seconds: int, now: datetime) -> dict[str, int]:
        """Marks an id as used, and returns what is to be kept over a restart. Raises BadSignature when it was."""
        oldest = now.timestamp() - 2 * TOLERANCE_SECONDS
        self._ids = {name: at for name, at in self._ids.items() if at >= oldest}
        if message_id in self._ids:
            raise BadSignature("replayed", "this request was taken before: a new one has a new id")
        self._ids[message_id] = seconds
        return dict(self._ids)
