"""How two texts differ, line by line.

Knows bytes only. Work is bounded: what is too large or too different is said, not compared.
"""

from __future__ import annotations

import difflib

from clew.base.records import TextDiff

LARGEST_TEXT = 8 << 20
"""Files of more bytes are not compared line by line."""
_MOST_PAIRS = 40_000_000
_MOST_SHOWN = 64 * 1024


def compare_texts(path: str, old: bytes | None, new: bytes | None) -> TextDiff | None:
    """The difference; None where one side is not UTF-8 text. A side of None does not exist.

    Lines that both begin and end with are not looked at; what lies between is compared with
    difflib unless it has more than 40 million pairs of lines.
    """
    before, after = _lines(old), _lines(new)
    if before is None or after is None:
        return None
    head = _same(before, after)
    tail = _same(before[head:][::-1], after[head:][::-1])
    first, second = len(before) - tail, len(after) - tail
    if (first - head) * (second - head) > _MOST_PAIRS:
        return TextDiff(added=second - head, removed=first - head, text="", cut=True)
    lines = _unified(path, before, after, max(0, head - 3), (first + 3, second + 3), old, new)
    added = sum(line.startswith("+") for line in lines[2:])
    removed = sum(line.startswith("-") for line in lines[2:])
    text = "".join(lines)
    return TextDiff(
        added=added, removed=removed, text=text[:_MOST_SHOWN], cut=len(text) > _MOST_SHOWN
    )


def _unified(
    path: str,
    before: list[str],
    after: list[str],
    start: int,
    ends: tuple[int, int],
    old: bytes | None,
    new: bytes | None,
) -> list[str]:
    """A unified diff of the middle, with the line numbers of the whole."""
    names = (
        f"a{path}" if old is not None else "/dev/null",
        f"b{path}" if new is not None else "/dev/null",
    )
    left, right = before[start : ends[0]], after[start : ends[1]]
    lines = [f"--- {names[0]}\n", f"+++ {names[1]}\n"]
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    for group in matcher.get_grouped_opcodes(3):
        lines.append(_hunk(group, start))
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                lines += [_line(" ", line) for line in left[i1:i2]]
                continue
            lines += [_line("-", line) for line in left[i1:i2]]
            lines += [_line("+", line) for line in right[j1:j2]]
    return lines


def _hunk(group: list[tuple[str, int, int, int, int]], start: int) -> str:
    first, last = group[0], group[-1]
    old = _range(first[1] + start, last[2] + start)
    new = _range(first[3] + start, last[4] + start)
    return f"@@ -{old} +{new} @@\n"


def _range(start: int, stop: int) -> str:
    length = stop - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"


def _line(mark: str, line: str) -> str:
    return (
        f"{mark}{line}" if line.endswith("\n") else f"{mark}{line}\n\\ No newline at end of file\n"
    )


def _lines(content: bytes | None) -> list[str] | None:
    if content is None:
        return []
    if b"\0" in content:
        return None
    try:
        return _split(content.decode())
    except UnicodeDecodeError:
        return None


def _split(text: str) -> list[str]:
    """Lines by line feeds alone, as git has them."""
    lines = text.split("\n")
    ended = [line + "\n" for line in lines[:-1]]
    return [*ended, lines[-1]] if lines[-1] else ended


def _same(left: list[str], right: list[str]) -> int:
    """How many lines are equal from the beginning."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
