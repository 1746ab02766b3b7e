"""The law of a codec as tests that every one passes, those of users too.

Knows no type. Subclass ``CodecConformance`` in a test module, with a name that begins with
``Test``, and say which values there are and what cannot be read.
"""

# ruff: noqa: D102 - a test's name is its sentence

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from clew.base.errors import Invalid
from clew.codecs import Place, dump_value, reader_of
from clew.repos import File


class CodecConformance:
    """There and back, the same bytes for the same value, and an error that says what is wrong.

    ``annotation`` is what a parameter and the result are annotated with. ``values`` are values of
    it, among them an empty one and one with texts beyond ASCII, where the type has such.
    ``garbage`` is content that is not of the type; none where anything is (``bytes``).
    """

    annotation: ClassVar[Any]
    garbage: ClassVar[Sequence[bytes]] = (b"", b"\x00\xff\xfe not this", b"{")
    suffix: ClassVar[str] = ""
    """Of the garbage's file; that of the first value where it is ''."""

    def values(self) -> Sequence[Any]:
        raise NotImplementedError

    def same(self, one: Any, other: Any) -> bool:
        """Whether two values are equal. Override where ``==`` does not say."""
        return bool(one == other)

    def test_what_was_written_is_read_back_equal(self, tmp_path: Path) -> None:
        for at, value in enumerate(self.values()):
            back = self._read(tmp_path / str(at), dump_value(value, "value", self.annotation))
            assert self.same(back, value), (back, value)

    def test_equal_values_are_written_as_equal_bytes(self) -> None:
        for first, second in zip(self.values(), self.values(), strict=True):
            one = dump_value(first, "value", self.annotation)
            other = dump_value(second, "value", self.annotation)
            assert [(path, _bytes(content)) for path, content in one] == [
                (path, _bytes(content)) for path, content in other
            ]

    def test_different_values_are_written_as_different_bytes(self) -> None:
        kept = [
            tuple(
                (path, _bytes(content)) for path, content in dump_value(one, "v", self.annotation)
            )
            for one in self.values()
        ]
        assert len(set(kept)) == len(kept)

    def test_a_name_beyond_ascii_is_kept(self, tmp_path: Path) -> None:
        value = self.values()[0]
        files = dump_value(value, "Übung/数据", self.annotation)
        assert all("数据" in path for path, _ in files)
        assert self.same(self._read(tmp_path, files), value)

    def test_garbage_is_told_with_the_name_of_the_file(self, tmp_path: Path) -> None:
        suffix = (
            self.suffix or Path(dump_value(self.values()[0], "v", self.annotation)[0][0]).suffix
        )
        for at, content in enumerate(self.garbage):
            name = f"/spoilt-{at}{suffix}"
            error = self._refusal(tmp_path / str(at), name, content)
            assert error is not None, f"{content!r} was read without an error"
            assert error.code == "file.unreadable", error.code
            assert name in error.message
            assert error.hint

    def _refusal(self, place: Path, name: str, content: bytes) -> Invalid | None:
        try:
            self._read(place, [(name, content)])
        except Invalid as error:
            return error
        return None

    def _read(self, place: Path, files: Sequence[tuple[str, bytes | Path]]) -> Any:
        found = []
        for path, content in sorted(files):
            target = place / "files" / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_bytes(content))
            disk = File.on_disk(target)
            found.append(replace(disk, path=path))
        return reader_of(self.annotation)(found, Place(scratch=place / "scratch"))


def imports_of(code: str, watched: Sequence[str]) -> set[str]:
    """Which of the watched libraries a piece of code has imported, in a process of its own."""
    asked = f"\nimport sys\nprint(*(set({list(watched)!r}) & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code + asked], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def _bytes(content: bytes | Path) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content
