"""Where a store is, as text: a directory, or a bucket with a prefix and options.

Knows how addresses are written; knows nothing of what stands there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from clew.base.errors import Invalid

BUCKETS = ("s3", "gs", "az")
_SECRET = ("secret", "token", "password", "account_key", "access_key", "sas_key", "service_account")
_OURS = {"cache", "timeout_s", "retry_s"}


@dataclass(frozen=True, kw_only=True)
class BucketAddress:
    """A place in an object store. ``prefix`` has no slash at its ends; empty is the whole bucket.

    ``timeout_s`` bounds one request, ``retry_s`` all tries of it together. ``cache`` is a local
    directory for what is read again and again. ``config`` goes to the object store's client.
    """

    scheme: str
    bucket: str
    prefix: str = ""
    timeout_s: float = 60.0
    retry_s: float = 60.0
    cache: Path | None = None
    config: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def place(self) -> str:
        """The address without options, for people."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def text(self) -> str:
        """The address again, with its options, but never with a secret."""
        ours = {"timeout_s": f"{self.timeout_s:g}", "retry_s": f"{self.retry_s:g}"}
        usual = {"timeout_s": "60", "retry_s": "60"}
        options = {key: value for key, value in self.config.items() if not _is_secret(key)}
        options |= {key: value for key, value in ours.items() if value != usual[key]}
        if self.cache is not None:
            options["cache"] = str(self.cache)
        query = f"?{urlencode(sorted(options.items()))}" if options else ""
        return f"{self.scheme}://{self.bucket}/{quote(self.prefix)}".rstrip("/") + query


def parse(
    address: str | Path, options: Mapping[str, str] | None = None, cache: Path | None = None
) -> Path | BucketAddress:
    """A directory, or a place in a bucket. ``options`` come on top of those in the URL.

    Raises:
        Invalid: ``store.address``.
    """
    if isinstance(address, Path):
        return address
    scheme, colon, _ = address.partition("://")
    if not colon:
        return Path(address)
    parts = urlsplit(address)
    if scheme == "file":
        return Path(unquote(parts.path))
    if scheme not in BUCKETS:
        raise _wrong(address, f"{scheme}:// is not known")
    if not parts.hostname or "@" in parts.netloc:
        raise _wrong(address, "it names no bucket" if not parts.hostname else "it holds a user")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if secret := next((key for key in query if _is_secret(key)), None):
        raise Invalid(
            "store.address",
            f"{secret} does not belong in the address of a store.",
            hint="Addresses are written down: give secrets in the environment (AWS_*) alone.",
        )
    config = query | dict(options or {})
    kept = Path(config["cache"]) if config.get("cache") else cache
    return BucketAddress(
        scheme=scheme,
        bucket=parts.netloc,
        prefix=unquote(parts.path).strip("/"),
        timeout_s=_seconds(address, config, "timeout_s"),
        retry_s=_seconds(address, config, "retry_s"),
        cache=kept,
        config={key: value for key, value in config.items() if key not in _OURS},
    )


def _seconds(address: str, options: Mapping[str, str], key: str) -> float:
    try:
        value = float(options.get(key, "60"))
    except ValueError:
        value = 0.0
    if not 0 < value < 3600:
        raise _wrong(address, f"{key} is not a number of seconds")
    return value


def _is_secret(key: str) -> bool:
    plain = key.lower()
    return plain != "access_key_id" and any(word in plain for word in _SECRET)


def _wrong(address: str, why: str) -> Invalid:
    return Invalid(
        "store.address",
        f"{address!r} is no address of a store: {why}.",
        hint="Write a path, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX.",
    )


def with_cache(address: str, cache: Path) -> str:
    """The address of the same bucket with another local directory for what is read again."""
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | {"cache": str(cache)}
    return parts._replace(query=urlencode(sorted(query.items()))).geturl()
