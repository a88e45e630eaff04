"""Ed25519 keys (RFC 8032): text forms, files, signatures over canonical JSON documents."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from registry.errors import ConfigError, SignatureError
from registry.jsontext import canonical

PREFIX = "ed25519:"


def public_text(key: bytes) -> str:
    """`ed25519:` and the base64 of the 32 raw bytes."""
    return PREFIX + base64.b64encode(key).decode()


def public_from_text(text: str) -> bytes:
    """The 32 raw bytes of `ed25519:BASE64`. Raises ConfigError."""
    try:
        key = base64.b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.strip().startswith(PREFIX) or len(key) != 32:
        raise ConfigError(f"not a public key: {text.strip()[:60]!r}; it reads {PREFIX} and the base64 of 32 bytes")
    return key


class SigningKey:
    """A private key; `public` is its 32-byte public half."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    @classmethod
    def from_file(cls, path: Path) -> SigningKey:
        """Read the seed (base64 of 32 bytes, mode 0600). Raises ConfigError."""
        try:
            seed = base64.b64decode(path.read_text("ascii").strip(), validate=True)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: no readable private key ({error})") from None
        if len(seed) != 32:
            raise ConfigError(f"{path}: a private key is the base64 of 32 bytes, found {len(seed)}")
        return cls(seed)

    @classmethod
    def create(cls, path: Path) -> SigningKey:
        """Make a new key, and write it to `path` (private, 0600) and `path`.pub. Never overwrites."""
        key = Ed25519PrivateKey.generate()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(base64.b64encode(key.private_bytes_raw()).decode() + "\n", "ascii")
        public = key.public_key().public_bytes_raw()
        Path(f"{path}.pub").write_text(public_text(public) + "\n", "ascii")
        return cls(key.private_bytes_raw())

    @property
    def seed(self) -> bytes:
        """The 32 private bytes that it is made of, for a library that signs by itself."""
        return self._key.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over `message`."""
        return self._key.sign(message)


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Raise SignatureError unless `signature` over `message` was made by the key `public`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise SignatureError(f"the signature does not verify under {public_text(public)[:20]}...") from None


def sign_document(document: Mapping[str, Any], key: SigningKey) -> dict[str, Any]:
    """`document` with `signer` and `sig` added; the signature covers all but `sig` (canonical JSON)."""
    body = {**document, "signer": public_text(key.public)}
    return {**body, "sig": base64.b64encode(key.sign(canonical(body))).decode()}


def verify_document(document: Mapping[str, Any], public: bytes) -> None:
    """Raise SignatureError unless `document` carries a valid signature of `public` over all but `sig`."""
    body = {name: value for name, value in document.items() if name != "sig"}
    if body.get("signer") != public_text(public):
        raise SignatureError(f"signed by {str(body.get('signer'))[:60]!r}, enrolled is {public_text(public)}")
    try:
        signature = base64.b64decode(str(document.get("sig", "")), validate=True)
    except binascii.Error:
        raise SignatureError("sig is not base64") from None
    verify(public, signature, canonical(body))
