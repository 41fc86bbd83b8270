"""The vault: seals secrets for the database and opens them for a launch.

AES-256-GCM (NIST SP 800-38D) with a random nonce, bound to project and name, so that a sealed value copied to
another row does not open. The key is 32 bytes that never enter the database; whoever has both has the
secrets. Masks what was opened in what a job prints.
"""

import base64
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from backends.base import LaunchRejected, Piece
from db.grants import Grant, Sealed
from db.source_uses import variable

SHORTEST_MASKED = 8
"""A shorter value would blot out what only happens to be equal."""
MASK = b"***"

_FORMAT = b"\x01"
_NONCE_BYTES = 12

Mask = Callable[[Sequence[Piece]], Sequence[Piece]]


class NotOpened(Exception):
    """What was sealed does not open: with another key, for another name, or changed meanwhile."""


def new_key() -> str:
    """A key, as it is written to a file."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


class Vault:
    """Seals and opens with one key; without a key it opens nothing."""

    def __init__(self, key: str | None = None) -> None:
        self._key = None if key is None else base64.urlsafe_b64decode(key)
        if self._key is not None and len(self._key) != 32:
            raise ValueError("a key for secrets has 32 bytes, in URL-safe base 64")

    def seal(self, context: bytes, value: str) -> bytes:
        """What may be stored of a value."""
        # Its import takes 30 ms, which only who has secrets pays.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if self._key is None:
            raise NotOpened("there is no key")
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + AESGCM(self._key).encrypt(nonce, value.encode(), context)

    def open(self, context: bytes, sealed: bytes) -> str:
        """The value; raises NotOpened."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if self._key is None or not sealed.startswith(_FORMAT):
            raise NotOpened("there is no key for it")
        nonce, rest = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return AESGCM(self._key).decrypt(nonce, rest, context).decode()
        except (InvalidTag, ValueError) as error:
            raise NotOpened("it was sealed with another key") from error

    def environment(self, grant: Grant) -> dict[str, str]:
        """The variables that a grant amounts to; raises LaunchRejected for what cannot be had."""
        found = {secret.name: self.value(secret) for secret in grant.secrets}
        for source in grant.sources:
            stem = f"RUNGRAPH_SOURCE_{variable(source.name)}"
            found[f"{stem}_URL"] = source.url
            if source.secret is not None:
                found[f"{stem}_CREDENTIALS"] = self.value(source.secret)
        return found

    def value(self, secret: Sealed) -> str:
        """An opened secret; raises LaunchRejected."""
        if secret.value is None:
            raise LaunchRejected(f"needs the secret {secret.name}, which is not set")
        try:
            return self.open(secret.context, secret.value)
        except NotOpened as error:
            raise LaunchRejected(f"the secret {secret.name} does not open, set it again: {error}") from error

    def mask(self, grant: Grant) -> Mask:
        """What blots a grant's values out of printed pieces; free where there are none."""
        of_sources = (source.secret for source in grant.sources if source.secret is not None)
        return masking(self._opened((*grant.secrets, *of_sources)))

    def _opened(self, secrets: Iterable[Sealed]) -> Iterable[str]:
        """Whatever opens: a secret that is gone by now was not given to a later launch either."""
        for secret in secrets:
            if secret.value is not None:
                try:
                    yield self.open(secret.context, secret.value)
                except NotOpened:
                    continue


def masking(values: Iterable[str]) -> Mask:
    """Replaces each value of 8 characters or more by ***, and each such line of one that has several.

    A value that is cut by the end of a piece (a line beyond 64 KiB) is not found.
    """
    words = {word for value in values for word in (value.strip(), *map(str.strip, value.splitlines()))}
    hidden = sorted((word.encode() for word in words if len(word) >= SHORTEST_MASKED), key=len, reverse=True)
    if not hidden:
        return _as_they_are
    pattern = re.compile(b"|".join(map(re.escape, hidden)))

    def mask(pieces: Sequence[Piece]) -> Sequence[Piece]:
        return [replace(piece, data=pattern.sub(MASK, piece.data)) for piece in pieces]

    return mask


def _as_they_are(pieces: Sequence[Piece]) -> Sequence[Piece]:
    return pieces
