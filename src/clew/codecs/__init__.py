"""Typed values as files and back: what an annotation says, in one open registry.

Knows files of commits, not why they are read: steps, trials and models all come in by this door.
"""

from clew.codecs.annotations import annotations_of, check_annotation
from clew.codecs.kinds import Place
from clew.codecs.reading import Reader, load_value, reader_of
from clew.codecs.registry import Codec, codec
from clew.codecs.spark import Spark
from clew.codecs.writing import dump_value, form_of

__all__ = [
    "Codec",
    "Place",
    "Reader",
    "Spark",
    "annotations_of",
    "check_annotation",
    "codec",
    "dump_value",
    "form_of",
    "load_value",
    "reader_of",
]
