"""XML in and out, as little as S3 needs.

Knows no operation; element names are the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from email.utils import format_datetime
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from clew.server.s3.errors import S3Error

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def text(name: str, value: object) -> str:
    """An element with text; booleans as S3 writes them."""
    plain = str(value).lower() if isinstance(value, bool) else str(value)
    return f"<{name}>{escape(plain)}</{name}>"


def group(name: str, parts: Iterable[str]) -> str:
    """An element with elements in it."""
    return f"<{name}>{''.join(parts)}</{name}>"


def document(name: str, parts: Iterable[str]) -> bytes:
    """A whole document."""
    body = "".join(parts)
    return f'{_HEAD}<{name} xmlns="{NAMESPACE}">{body}</{name}>'.encode()


def error_document(code: str, message: str, resource: str, request_id: str) -> bytes:
    """The body of an error."""
    parts = (
        text("Code", code),
        text("Message", message),
        text("Resource", resource),
        text("RequestId", request_id),
    )
    return f"{_HEAD}{group('Error', parts)}".encode()


def iso(moment: datetime) -> str:
    """A time as listings write it, to the millisecond."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def http_date(moment: datetime) -> str:
    """A time as headers write it."""
    return format_datetime(moment, usegmt=True)


class Element:
    """A parsed element; names are compared without their namespace."""

    def __init__(self, raw: ElementTree.Element) -> None:
        self._raw = raw

    @property
    def name(self) -> str:
        """The name of the element."""
        return self._raw.tag.rpartition("}")[2]

    def all(self, name: str) -> list[Element]:
        """Children of that name, in order."""
        return [child for child in map(Element, self._raw) if child.name == name]

    def get(self, name: str) -> str | None:
        """The text of the first child of that name; None where there is none."""
        found = self.all(name)
        return (found[0]._raw.text or "") if found else None

    def texts(self) -> dict[str, str]:
        """Text of every child by its name."""
        return {child.name: child._raw.text or "" for child in map(Element, self._raw)}


def parse(body: bytes, name: str) -> Element:
    """The root of a document that must have this name. Documents with a DTD are refused.

    Raises:
        S3Error: ``MalformedXML``.
    """
    try:
        if b"<!" in body:
            raise ElementTree.ParseError("a document type has no place here")
        root = Element(ElementTree.fromstring(body))  # noqa: S314 - no DTD, so no entities
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise S3Error("MalformedXML", f"The body is not XML as S3 has it: {error}.") from None
    if root.name != name:
        raise S3Error("MalformedXML", f"The body is a {root.name}, not a {name}.")
    return root
