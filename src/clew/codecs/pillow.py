"""Images of Pillow.

The one file that knows Pillow.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from clew.base.errors import Invalid
from clew.codecs.formats import IMAGES, content_of, explained, first_line, need
from clew.codecs.kinds import Kind, Place, only
from clew.repos import File


def _read(files: Sequence[File], asked: str, place: Place) -> Any:  # noqa: ARG001 - a codec's form
    """The one image, whole: what is cut off is told here and not in the user's code."""
    file = only(files)
    module = need("PIL.Image", "images")
    data = content_of(file, asked)
    with explained(file, ".png", data):
        image = module.open(BytesIO(data))
        image.load()
        return image


def _write(image: Any, suffix: str) -> bytes:
    module = need("PIL.Image", "images")
    module.init()
    sink = BytesIO()
    form = module.EXTENSION[suffix]
    more = {"quality": 95} if form == "JPEG" else {}
    try:
        image.save(sink, format=form, **more)
    except (OSError, ValueError, KeyError) as error:
        raise Invalid(
            "value.not_written",
            f"An image of mode {image.mode} cannot be kept as {suffix}: {first_line(error)}.",
            hint='Convert it, such as image.convert("RGB"), or return Annotated[Image, ".tiff"].',
        ) from error
    return sink.getvalue()


IMAGE = Kind(suffix=".png", suffixes=IMAGES, read=_read, write=_write)
