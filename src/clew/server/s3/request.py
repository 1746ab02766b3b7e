"""One request as S3 reads it: method, bucket, key, query, headers.

Knows HTTP alone.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote

from msgspec import Struct
from starlette.types import Scope

from clew.server.s3.errors import S3Error

_VIRTUAL = ".localhost"


class Asked(Struct, frozen=True, kw_only=True):
    """A request without its body. ``bucket`` and ``key`` are '' where there are none.

    ``path`` is decoded, ``raw_path`` as it was sent; the bucket is in them where it stood there.
    Header names are in lower case; of a repeated header the values are joined by commas.
    """

    method: str
    path: str
    raw_path: str
    bucket: str
    key: str
    pairs: tuple[tuple[str, str], ...]
    headers: dict[str, str]

    @property
    def query(self) -> dict[str, str]:
        """The query by name; the first counts."""
        return dict(reversed(self.pairs))

    def header(self, name: str, default: str = "") -> str:
        """A header by its name in lower case."""
        return self.headers.get(name, default)

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number of the query, cut to ``most``.

        Raises:
            S3Error: ``InvalidArgument``.
        """
        given = self.query.get(name)
        if not given:
            return default
        if not given.isdigit():
            raise S3Error("InvalidArgument", f"{name} is {given!r}, not a whole number.")
        return min(int(given), most)

    @property
    def length(self) -> int | None:
        """Bytes of the body as they will be sent; None where the client does not say."""
        given = self.header("content-length")
        return int(given) if given.isdigit() else None


def read_request(scope: Scope) -> Asked:
    """A request out of its ASGI scope.

    Raises:
        S3Error: ``InvalidURI`` where the path or the query is not UTF-8.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    try:
        raw_path = (scope.get("raw_path") or scope["path"].encode()).decode("ascii")
        path = unquote(raw_path, errors="strict")
        query = scope["query_string"].decode("ascii")
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "The path and the query must be UTF-8.") from None
    virtual = _virtual_bucket(headers.get("host", ""))
    bucket, _, key = ("", "", path[1:]) if virtual else path[1:].partition("/")
    return Asked(
        method=scope["method"],
        path=path,
        raw_path=raw_path,
        bucket=virtual or bucket,
        key=key,
        pairs=tuple(pairs),
        headers=headers,
    )


def _virtual_bucket(host: str) -> str:
    """The bucket in ``BUCKET.localhost:PORT``."""
    name = host.partition(":")[0].lower()
    return name.removesuffix(_VIRTUAL) if name.endswith(_VIRTUAL) else ""
