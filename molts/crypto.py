"""Encryption of secrets in the database: Fernet with rotating keys.

`MOLTS_FIELD_KEYS` lists the keys; the first encrypts, all decrypt. A value that no key opens raises: handing the
ciphertext on would send it to a vendor as if it were the key.
"""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from molts.errors import BadConfiguration
from molts.redact import remember_secret


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.MOLTS_FIELD_KEYS])


def encrypt(plain: str) -> str:
    """Ciphertext (text) of `plain`; empty stays empty."""
    remember_secret(plain)
    return _fernet().encrypt(plain.encode()).decode() if plain else ""


def decrypt(cipher: str) -> str:
    """Inverse of `encrypt`. Raises BadConfiguration when none of the keys opens it."""
    if not cipher:
        return ""
    try:
        plain = _fernet().decrypt(cipher.encode()).decode()
    except InvalidToken as error:
        raise BadConfiguration(
            "A stored secret cannot be decrypted: the key that encrypted it is not in MOLTS_FIELD_KEYS. "
            "Restore that key, or type the secret again."
        ) from error
    remember_secret(plain)  # from here on it may come back in a vendor's words
    return plain


def rotate(cipher: str) -> str:
    """`cipher` encrypted again with the first key."""
    return encrypt(decrypt(cipher))


def is_current(cipher: str) -> bool:
    """Whether the first key alone opens `cipher`, so that the others are not needed for it."""
    if not cipher:
        return True
    try:
        Fernet(settings.MOLTS_FIELD_KEYS[0]).decrypt(cipher.encode())
    except InvalidToken:
        return False
    return True
