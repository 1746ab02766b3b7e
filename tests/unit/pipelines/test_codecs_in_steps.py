"""Types of users in steps: their codecs are code of the steps that name the type."""

from __future__ import annotations

from textwrap import dedent

import pytest

from clew.pipelines import fingerprint

PROGRAM = {
    "steps.py": """
        import clew
        from words import Word
        def f(page: bytes): return Word(page.decode())
        def g(word: Word): return len(word.text)
        def h(page: bytes): return len(page)
    """,
    "words.py": """
        import clew
        class Word:
            def __init__(self, text): self.text = text
        def read(file): return Word(file.read().decode())
        def write(word): return word.text.encode()
        clew.codec(Word, read=read, write=write, suffixes=[".word"])
    """,
}
AS_CLASS = """
    import clew
    class Word:
        def __init__(self, text): self.text = text
    @clew.codec(Word, suffixes=[".word"])
    class Words:
        def read(self, file): return Word(file.read().decode())
        def write(self, word): return word.text.encode()
"""


def prints(directory, files):
    directory.mkdir()
    for name, text in files.items():
        (directory / name).write_text(dedent(text))
    return {name: fingerprint(directory, "steps.py", name).digest for name in "fgh"}


@pytest.mark.parametrize(
    ("words", "old", "new"),
    [
        (PROGRAM["words.py"], ".encode()", '.encode("utf-16")'),
        (PROGRAM["words.py"], '".word"', '".txt"'),
        (PROGRAM["words.py"], "file.read().decode()", "file.read().decode().strip()"),
        (AS_CLASS, ".encode()", '.encode("utf-16")'),
        (AS_CLASS, '".word"', '".txt"'),
    ],
)
def test_a_codec_counts_for_the_steps_that_name_its_type_and_for_no_other(
    tmp_path, words, old, new
):
    assert old in words
    before = prints(tmp_path / "a", PROGRAM | {"words.py": words})
    after = prints(tmp_path / "b", PROGRAM | {"words.py": words.replace(old, new)})
    assert {name for name in before if before[name] != after[name]} == {"f", "g"}


def test_the_codec_of_a_librarys_type_counts_for_every_step(tmp_path):
    words = "from fractions import Fraction\n" + dedent(PROGRAM["words.py"])
    words = words.replace("clew.codec(Word", "clew.codec(Fraction")
    before = prints(tmp_path / "a", PROGRAM | {"words.py": words})
    after = prints(tmp_path / "b", PROGRAM | {"words.py": words.replace(".word", ".x")})
    assert all(before[name] != after[name] for name in "fgh")


FIRST = """
    from fractions import Fraction
    import clew
    def half(raw: bytes): return Fraction(int(raw), 2)
    def text(half: Fraction): return str(half)
    clew.codec(Fraction, suffixes=[".frac"], read=lambda file: Fraction(file.read().decode()),
               write=lambda value: str(value).encode())
"""


def test_a_users_type_goes_from_step_to_step(lab):
    lab.code(FIRST)
    lab.apply(lab.step("half", "raw/"), lab.step("text", "half/"))
    lab.put({"/a": "3"})
    lab.run()
    assert lab.output("half") == {"/a.frac": "3/2"}
    assert lab.output("text") == {"/a.txt": "3/2"}


def test_a_worker_forgets_the_codecs_of_another_snapshot(lab):
    lab.code(FIRST)
    lab.apply(lab.step("half", "raw/"))
    lab.put({"/a": "3"})
    lab.run()
    lab.code("from fractions import Fraction\ndef half(raw: bytes): return Fraction(int(raw), 3)")
    lab.apply(lab.step("half", "raw/"))
    lab.run()
    assert lab.last("half").state == "failed"
    assert "No codec keeps a value of type fractions.Fraction" in lab.last("half").error
