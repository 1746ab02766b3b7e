"""Names for bytes: BLAKE3 with a type tag, and the one canonical encoding of values.

Knows nothing of where bytes are kept. A tag is BLAKE3's key derivation context
(https://github.com/BLAKE3-team/BLAKE3-specs, section 2.3), so a job can never collide with a file.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

import blake3
import msgspec

from clew.base.errors import Invalid

Digest: TypeAlias = str
"""``tag:`` and 64 hexadecimal digits."""

KEY_BYTES = 32
_TAG = re.compile(r"[a-z][a-z0-9-]{0,30}")
_DIGEST = re.compile(r"([a-z][a-z0-9-]{0,30}):([0-9a-f]{64})")
_encoder = msgspec.msgpack.Encoder(order="deterministic")


def digest(tag: str, payload: bytes) -> Digest:
    """The name of ``payload`` as a thing of the kind ``tag``.

    Raises:
        Invalid: ``digest.tag`` where the tag is not a lower-case word of at most 31 characters.
    """
    return f"{tag}:{key_of(tag, payload).hex()}"


def digest_of(tag: str, value: object) -> Digest:
    """The name of a plain value: :func:`digest` of its :func:`canonical` bytes.

    Raises:
        Invalid: ``digest.tag``, ``digest.value``.
    """
    return digest(tag, canonical(value))


def canonical(value: object) -> bytes:
    """The one encoding of a plain value: MessagePack, shortest forms, keys of maps sorted.

    Takes None, bool, int (64 bits), float, str, bytes, lists and tuples (the same thing), and
    dicts with str keys, nested.

    Raises:
        Invalid: ``digest.value`` for anything else.
    """
    try:
        return _encoder.encode(value)
    except (TypeError, OverflowError, UnicodeEncodeError, msgspec.MsgspecError) as error:
        raise Invalid(
            "digest.value",
            f"A value of type {type(value).__name__} has no canonical form: {error}.",
            hint="Use None, bool, int of 64 bits, float, str, bytes, lists and dicts of str.",
        ) from error


def key_of(tag: str, payload: bytes | memoryview) -> bytes:
    """The 32 bytes of :func:`digest`, without the tag."""
    hasher = _hasher(tag).copy()
    hasher.update(payload)
    return hasher.digest()


def split(text: Digest) -> tuple[str, bytes]:
    """Tag and 32 bytes of a digest.

    Raises:
        Invalid: ``digest.invalid``.
    """
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise Invalid(
            "digest.invalid",
            f"{text!r} is not a digest.",
            hint="A digest is a tag, a colon and 64 hexadecimal digits.",
        )
    return match[1], bytes.fromhex(match[2])


@lru_cache(maxsize=256)
def _hasher(tag: str) -> blake3.blake3:
    if not _TAG.fullmatch(tag):
        raise Invalid(
            "digest.tag",
            f"{tag!r} is not a tag.",
            hint="Use a lower-case word of letters, digits and '-'.",
        )
    return blake3.blake3(derive_key_context=f"clew 1 {tag}")
