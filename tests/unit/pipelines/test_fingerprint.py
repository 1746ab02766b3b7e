"""Small programs with an edit each: must the step `f` run again, or must it not?"""

# ruff: noqa: E501, ERA001 - a program and its edit stand side by side; headings divide the table

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from clew.base.errors import Invalid, NotFound
from clew.pipelines import environment_of, fingerprint
from clew.pipelines.fingerprint import changed_parts

RUNS, SAME = True, False


def project(directory: Path, files: dict[str, str] | str) -> Path:
    for name, text in ({"a.py": files} if isinstance(files, str) else files).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return directory


STEP = "import clew\np = clew.Pipeline('p')\ns = p.source('s')\n"

# name: (before, after, must run again)
CORPUS: dict[str, tuple[dict[str, str] | str, dict[str, str] | str, bool]] = {
    # the function itself
    "body": ("def f(x): return x + 1", "def f(x): return x + 2", RUNS),
    "comment": ("def f(x): return x", "def f(x):  # why\n    return x  # because", SAME),
    "docstring": ("def f(x): return x", 'def f(x):\n    """Says x."""\n    return x', SAME),
    "formatting": ("def f(x): return g(1, 2)", "def f(x):\n    return (\n  g(1,\n 2))", SAME),
    "quotes": ("def f(x): return 'a'", 'def f(x): return "a"', SAME),
    "joined texts": ("def f(x): return 'ab'", "def f(x): return 'a' 'b'", SAME),
    "underscores in numbers": ("def f(x): return 1000", "def f(x): return 1_000", SAME),
    "int to float": ("def f(x): return 1", "def f(x): return 1.0", RUNS),
    "int to bool": ("def f(x): return 1", "def f(x): return True", RUNS),
    "f-string": ("def f(x): return f'{x:>2}'", "def f(x): return f'{x:>3}'", RUNS),
    "return annotation": ("def f(x): return x", "def f(x) -> int: return x", SAME),
    "own parameter annotation": ("def f(x): return x", "def f(x: bytes): return x", RUNS),
    "quoted annotation": ("def f(x: bytes): return x", "def f(x: 'bytes'): return x", SAME),
    "annotation of a local": ("def f(x):\n y = x\n return y", "def f(x):\n y: int = x\n return y", SAME),
    "bare annotation": ("def f(x): return x", "def f(x):\n y: int\n return x", SAME),
    "pass": ("def f(x): return x", "def f(x):\n    pass\n    return x", SAME),
    "default argument": ("def f(x, n=1): return n", "def f(x, n=2): return n", RUNS),
    "keyword only": ("def f(x, n=1): return n", "def f(x, *, n=1): return n", RUNS),
    "async": ("def f(x): return x", "async def f(x): return x", RUNS),
    "order of statements": ("def f(x):\n a(1)\n b(2)", "def f(x):\n b(2)\n a(1)", RUNS),
    "assert": ("def f(x): return x", "def f(x):\n assert x\n return x", RUNS),
    "moved down": ("def f(x): return x\ndef g(): pass", "def g(): pass\n\n\ndef f(x): return x", SAME),
    # constants
    "constant": ("N = 1\ndef f(x): return N", "N = 2\ndef f(x): return N", RUNS),
    "unused constant": ("N = 1\ndef f(x): return x", "N = 2\ndef f(x): return x", SAME),
    "hint at a constant": ("N = 1\ndef f(x): return N", "N: int = 1\ndef f(x): return N", SAME),
    "constant of a constant": (
        "A = 1\nN = A + 1\ndef f(x): return N", "A = 2\nN = A + 1\ndef f(x): return N", RUNS
    ),
    "default from a constant": ("N = 1\ndef f(x, n=N): return n", "N = 2\ndef f(x, n=N): return n", RUNS),
    "shadowed by a parameter": ("N = 1\ndef f(N): return N", "N = 2\ndef f(N): return N", SAME),
    "shadowed by a local": (
        "N = 1\ndef f(x):\n N = x\n return N", "N = 2\ndef f(x):\n N = x\n return N", SAME
    ),
    "shadowed in a comprehension": (
        "N = 1\ndef f(x): return [N for N in x]", "N = 2\ndef f(x): return [N for N in x]", SAME
    ),
    "used in a comprehension": (
        "N = 1\ndef f(x): return [N for y in x]", "N = 2\ndef f(x): return [N for y in x]", RUNS
    ),
    "used in a lambda": ("N = 1\ndef f(x): return lambda: N", "N = 2\ndef f(x): return lambda: N", RUNS),
    "used in an inner function": (
        "N = 1\ndef f(x):\n def g(): return N\n return g()",
        "N = 2\ndef f(x):\n def g(): return N\n return g()", RUNS,
    ),
    "closure over a local": (
        "N = 1\ndef f(x):\n N = x\n def g(): return N\n return g()",
        "N = 2\ndef f(x):\n N = x\n def g(): return N\n return g()", SAME,
    ),
    "except binds": (
        "e = 1\ndef f(x):\n try: x()\n except ValueError as e: return e",
        "e = 2\ndef f(x):\n try: x()\n except ValueError as e: return e", SAME,
    ),
    "match binds": (
        "y = 1\ndef f(x):\n match x:\n  case [y]: return y",
        "y = 2\ndef f(x):\n match x:\n  case [y]: return y", SAME,
    ),
    "walrus binds": (
        "y = 1\ndef f(x):\n if (y := x): return y", "y = 2\ndef f(x):\n if (y := x): return y", SAME
    ),
    "global statement": (
        "N = 1\ndef f(x):\n global N\n N += x\n return N",
        "N = 2\ndef f(x):\n global N\n N += x\n return N", RUNS,
    ),
    "constant bound twice": (
        "N = 1\nN = 2\ndef f(x): return N", "N = 1\nN = 3\ndef f(x): return N", RUNS
    ),
    "constant in a branch": (
        "import sys\nif sys.platform == 'linux':\n N = 1\nelse:\n N = 2\ndef f(x): return N",
        "import sys\nif sys.platform == 'linux':\n N = 1\nelse:\n N = 3\ndef f(x): return N", RUNS,
    ),
    "unpacked constants": (
        "A, B = 1, 2\ndef f(x): return A", "A, B = 3, 2\ndef f(x): return A", RUNS
    ),
    "data file": (
        {"a.py": "def f(x): return open('d.txt').read()", "d.txt": "1"},
        {"a.py": "def f(x): return open('d.txt').read()", "d.txt": "2"}, RUNS,
    ),
    # helpers
    "helper": ("def g(): return 1\ndef f(x): return g()", "def g(): return 2\ndef f(x): return g()", RUNS),
    "unused helper": ("def g(): return 1\ndef f(x): return x", "def g(): return 2\ndef f(x): return x", SAME),
    "helper of a helper": (
        "def h(): return 1\ndef g(): return h()\ndef f(x): return g()",
        "def h(): return 2\ndef g(): return h()\ndef f(x): return g()", RUNS,
    ),
    "hint in a helper": (
        "def g(a): return a\ndef f(x): return g(x)",
        "def g(a: int) -> int: return a\ndef f(x): return g(x)", SAME,
    ),
    "docstring in a helper": (
        "def g(a): return a\ndef f(x): return g(x)",
        "def g(a):\n '''Hi.'''\n return a\ndef f(x): return g(x)", SAME,
    ),
    "recursion": (
        "def g(n): return n and h(n)\ndef h(n): return g(n-1)\ndef f(x): return g(x)",
        "def g(n): return n and h(n)\ndef h(n): return g(n-2)\ndef f(x): return g(x)", RUNS,
    ),
    "helper passed on": (
        "def g(a): return 1\ndef f(x): return map(g, x)",
        "def g(a): return 2\ndef f(x): return map(g, x)", RUNS,
    ),
    "partial": (
        "from functools import partial\ndef g(n, x): return n\nf = partial(g, 1)",
        "from functools import partial\ndef g(n, x): return n\nf = partial(g, 2)", RUNS,
    ),
    "function behind a partial": (
        "from functools import partial\ndef g(n, x): return n\nf = partial(g, 1)",
        "from functools import partial\ndef g(n, x): return -n\nf = partial(g, 1)", RUNS,
    ),
    "factory": (
        "def make(n):\n def g(x): return n\n return g\nf = make(1)",
        "def make(n):\n def g(x): return n + 1\n return g\nf = make(1)", RUNS,
    ),
    "table of functions": (
        "def g(): return 1\nT = {'g': g}\ndef f(x): return T[x]()",
        "def g(): return 2\nT = {'g': g}\ndef f(x): return T[x]()", RUNS,
    ),
    # classes
    "method": (
        "class C:\n def m(self): return 1\ndef f(x): return C().m()",
        "class C:\n def m(self): return 2\ndef f(x): return C().m()", RUNS,
    ),
    "base class": (
        "class B:\n def m(self): return 1\nclass C(B): pass\ndef f(x): return C().m()",
        "class B:\n def m(self): return 2\nclass C(B): pass\ndef f(x): return C().m()", RUNS,
    ),
    "unused class": (
        "class C: n = 1\ndef f(x): return x", "class C: n = 2\ndef f(x): return x", SAME
    ),
    "class attribute": ("class C: n = 1\ndef f(x): return C.n", "class C: n = 2\ndef f(x): return C.n", RUNS),
    "field of a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass C:\n n: int\ndef f(x): return C(x)",
        "from dataclasses import dataclass\n@dataclass\nclass C:\n m: int\ndef f(x): return C(x)", RUNS,
    ),
    "docstring of a class": (
        "class C:\n n = 1\ndef f(x): return C.n", "class C:\n '''Doc.'''\n n = 1\ndef f(x): return C.n", SAME
    ),
    "metaclass": (
        "class M(type): n = 1\nclass C(metaclass=M): pass\ndef f(x): return C.n",
        "class M(type): n = 2\nclass C(metaclass=M): pass\ndef f(x): return C.n", RUNS,
    ),
    "constant in a method": (
        "N = 1\nclass C:\n def m(self): return N\ndef f(x): return C().m()",
        "N = 2\nclass C:\n def m(self): return N\ndef f(x): return C().m()", RUNS,
    ),
    "class scope does not reach methods": (
        "N = 1\nclass C:\n N = 5\n def m(self): return N\ndef f(x): return C().m()",
        "N = 2\nclass C:\n N = 5\n def m(self): return N\ndef f(x): return C().m()", RUNS,
    ),
    "subclass that registers itself": (
        "class B:\n all = []\n def __init_subclass__(c): B.all.append(c)\nclass C(B): n = 1\ndef f(x): return B.all[0].n",
        "class B:\n all = []\n def __init_subclass__(c): B.all.append(c)\nclass C(B): n = 2\ndef f(x): return B.all[0].n", RUNS,
    ),
    "method patched from outside": (
        "class C: pass\nC.m = lambda self: 1\ndef f(x): return C().m()",
        "class C: pass\nC.m = lambda self: 2\ndef f(x): return C().m()", RUNS,
    ),
    # decorators
    "decorator": (
        "def d(g): return lambda x: g(x) + 1\n@d\ndef f(x): return x",
        "def d(g): return lambda x: g(x) + 2\n@d\ndef f(x): return x", RUNS,
    ),
    "argument of a decorator": (
        "def d(n): return lambda g: g\n@d(1)\ndef f(x): return x",
        "def d(n): return lambda g: g\n@d(2)\ndef f(x): return x", RUNS,
    ),
    "decorator taken off": (
        "def d(g): return g\n@d\ndef f(x): return x", "def d(g): return g\ndef f(x): return x", RUNS
    ),
    "single dispatch": (
        "from functools import singledispatch\n@singledispatch\ndef g(a): return 0\n@g.register\ndef _(a: int): return 1\ndef f(x): return g(x)",
        "from functools import singledispatch\n@singledispatch\ndef g(a): return 0\n@g.register\ndef _(a: str): return 1\ndef f(x): return g(x)", RUNS,
    ),
    "registry": (
        "R = {}\ndef reg(g):\n R[g.__name__] = g\n return g\n@reg\ndef h(): return 1\ndef f(x): return R[x]()",
        "R = {}\ndef reg(g):\n R[g.__name__] = g\n return g\n@reg\ndef h(): return 2\ndef f(x): return R[x]()", RUNS,
    ),
    "step decorator": (
        STEP + "@p.step(s)\ndef f(x): return x", STEP + "@p.step(s.glob('/*'), per='file', retries=3)\ndef f(x): return x", SAME
    ),
    "other step": (
        STEP + "@p.step(s)\ndef f(x): return x\n@p.step(f)\ndef g(y): return 1",
        STEP + "@p.step(s)\ndef f(x): return x\n@p.step(f)\ndef g(y): return 2", SAME,
    ),
    "step above": (
        STEP + "@p.step(s)\ndef g(x): return 1\n@p.step(g)\ndef f(x): return x",
        STEP + "@p.step(s)\ndef g(x): return 2\n@p.step(g)\ndef f(x): return x", SAME,
    ),
    "step called as a function": (
        STEP + "@p.step(s)\ndef g(x): return 1\n@p.step(s)\ndef f(x): return g(x)",
        STEP + "@p.step(s)\ndef g(x): return 2\n@p.step(s)\ndef f(x): return g(x)", RUNS,
    ),
    "expectation": (
        STEP + "@p.step(s)\ndef f(x): return x\n@p.expect(f)\ndef e(t): t.a(1)",
        STEP + "@p.step(s)\ndef f(x): return x\n@p.expect(f)\ndef e(t): t.a(2)", SAME,
    ),
    "endpoint": (
        STEP + "@p.step(s)\ndef f(x): return x\np.endpoint('e', f, rollout=clew.canary([1]))",
        STEP + "@p.step(s)\ndef f(x): return x\np.endpoint('e', f, rollout=clew.canary([2]))", SAME,
    ),
    "other name for clew": (
        "from clew import Pipeline as P\np = P('p')\n@p.step(1)\ndef f(x): return x",
        "from clew import Pipeline as P\np = P('q')\n@p.step(2)\ndef f(x): return x", SAME,
    ),
    "pipeline from another file": (
        {"b.py": STEP, "a.py": "from b import p\n@p.step(1)\ndef f(x): return x"},
        {"b.py": STEP, "a.py": "from b import p\n@p.step(2)\ndef f(x): return x"}, SAME,
    ),
    "user decorator below the step": (
        STEP + "def d(g): return g\n@p.step(s)\n@d\ndef f(x): return x",
        STEP + "def d(g): return None\n@p.step(s)\n@d\ndef f(x): return x", RUNS,
    ),
    # imports
    "imported constant": (
        {"b.py": "N = 1", "a.py": "from b import N\ndef f(x): return N"},
        {"b.py": "N = 2", "a.py": "from b import N\ndef f(x): return N"}, RUNS,
    ),
    "imported under another name": (
        {"b.py": "N = 1", "a.py": "from b import N as M\ndef f(x): return M"},
        {"b.py": "N = 2", "a.py": "from b import N as M\ndef f(x): return M"}, RUNS,
    ),
    "other name of an imported module": (
        {"b.py": "N = 1\nM = 1", "a.py": "import b\ndef f(x): return b.N"},
        {"b.py": "N = 1\nM = 2", "a.py": "import b\ndef f(x): return b.N"}, SAME,
    ),
    "attribute of a module": (
        {"b.py": "N = 1", "a.py": "import b\ndef f(x): return b.N"},
        {"b.py": "N = 2", "a.py": "import b\ndef f(x): return b.N"}, RUNS,
    ),
    "module in a package": (
        {"k/__init__.py": "", "k/b.py": "def g(): return 1", "a.py": "import k.b\ndef f(x): return k.b.g()"},
        {"k/__init__.py": "", "k/b.py": "def g(): return 2", "a.py": "import k.b\ndef f(x): return k.b.g()"}, RUNS,
    ),
    "package without init": (
        {"k/b.py": "def g(): return 1", "a.py": "from k import b\ndef f(x): return b.g()"},
        {"k/b.py": "def g(): return 2", "a.py": "from k import b\ndef f(x): return b.g()"}, RUNS,
    ),
    "relative import": (
        {"k/__init__.py": "", "k/c.py": "N = 1", "k/b.py": "from .c import N\ndef g(): return N", "a.py": "from k.b import g\ndef f(x): return g()"},
        {"k/__init__.py": "", "k/c.py": "N = 2", "k/b.py": "from .c import N\ndef g(): return N", "a.py": "from k.b import g\ndef f(x): return g()"}, RUNS,
    ),
    "passed on by a package": (
        {"k/__init__.py": "from .b import g", "k/b.py": "def g(): return 1", "a.py": "from k import g\ndef f(x): return g()"},
        {"k/__init__.py": "from .b import g", "k/b.py": "def g(): return 2", "a.py": "from k import g\ndef f(x): return g()"}, RUNS,
    ),
    "star import": (
        {"b.py": "N = 1", "a.py": "from b import *\ndef f(x): return N"},
        {"b.py": "N = 2", "a.py": "from b import *\ndef f(x): return N"}, RUNS,
    ),
    "lazy import": (
        {"b.py": "def g(): return 1", "a.py": "def f(x):\n from b import g\n return g()"},
        {"b.py": "def g(): return 2", "a.py": "def f(x):\n from b import g\n return g()"}, RUNS,
    ),
    "lazy import of a module": (
        {"b.py": "N = 1\nM = 1", "a.py": "def f(x):\n import b\n return b.N"},
        {"b.py": "N = 1\nM = 2", "a.py": "def f(x):\n import b\n return b.N"}, SAME,
    ),
    "import that may fail": (
        {"b.py": "N = 1", "a.py": "try:\n import zzz as b\nexcept ImportError:\n import b\ndef f(x): return b.N"},
        {"b.py": "N = 2", "a.py": "try:\n import zzz as b\nexcept ImportError:\n import b\ndef f(x): return b.N"}, RUNS,
    ),
    "import for types only": (
        {"b.py": "class T: n = 1", "a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n from b import T\ndef g(a: 'T'): return a\ndef f(x): return g(x)"},
        {"b.py": "class T: n = 2", "a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n from b import T\ndef g(a: 'T'): return a\ndef f(x): return g(x)"}, SAME,
    ),
    "import for its effect": (
        {"b.py": "import os\nos.environ['A'] = '1'", "a.py": "import b\ndef f(x): return x"},
        {"b.py": "import os\nos.environ['A'] = '2'", "a.py": "import b\ndef f(x): return x"}, RUNS,
    ),
    "unreached file": (
        {"b.py": "N = 1", "a.py": "def f(x): return x"}, {"b.py": "N = 2", "a.py": "def f(x): return x"}, SAME
    ),
    "circular imports": (
        {"b.py": "import a\nN = 1\ndef g(): return a.M", "a.py": "import b\nM = 1\ndef f(x): return b.g()"},
        {"b.py": "import a\nN = 1\ndef g(): return a.M", "a.py": "import b\nM = 2\ndef f(x): return b.g()"}, RUNS,
    ),
    "module passed as a value": (
        {"b.py": "N = 1", "a.py": "import b\ndef f(x): return x(b)"},
        {"b.py": "N = 2", "a.py": "import b\ndef f(x): return x(b)"}, RUNS,
    ),
    "base class in another file": (
        {"b.py": "class B:\n def m(self): return 1", "a.py": "import b\nclass C(b.B): pass\ndef f(x): return C().m()"},
        {"b.py": "class B:\n def m(self): return 2", "a.py": "import b\nclass C(b.B): pass\ndef f(x): return C().m()"}, RUNS,
    ),
    # statements at module level
    "table filled below": (
        "T = {}\nT['a'] = 1\ndef f(x): return T", "T = {}\nT['a'] = 2\ndef f(x): return T", RUNS
    ),
    "list appended to": (
        "T = []\nT.append(1)\ndef f(x): return T", "T = []\nT.append(2)\ndef f(x): return T", RUNS
    ),
    "filled in a loop": (
        "T = []\nfor i in range(3):\n T.append(i)\ndef f(x): return T",
        "T = []\nfor i in range(4):\n T.append(i)\ndef f(x): return T", RUNS,
    ),
    "filled by a helper": (
        "T = []\ndef fill(t): t.append(1)\nfill(T)\ndef f(x): return T",
        "T = []\ndef fill(t): t.append(2)\nfill(T)\ndef f(x): return T", RUNS,
    ),
    "set by a function": (
        "N = 1\ndef setup():\n global N\n N = 2\nsetup()\ndef f(x): return N",
        "N = 1\ndef setup():\n global N\n N = 3\nsetup()\ndef f(x): return N", RUNS,
    ),
    "never set by that function": (
        "N = 1\ndef setup():\n global N\n N = 2\ndef f(x): return N",
        "N = 1\ndef setup():\n global N\n N = 2\nsetup()\ndef f(x): return N", RUNS,
    ),
    "state of a library": (
        "import numpy as np\nnp.random.seed(1)\ndef f(x): return np.random.rand()",
        "import numpy as np\nnp.random.seed(2)\ndef f(x): return np.random.rand()", RUNS,
    ),
    "other statement": ("print(1)\ndef f(x): return x", "print(2)\ndef f(x): return x", SAME),
    "main block": (
        "def f(x): return x\nif __name__ == '__main__':\n f(1)",
        "def f(x): return x\nif __name__ == '__main__':\n f(2)", SAME,
    ),
    "augmented": ("N = 1\nN += 1\ndef f(x): return N", "N = 1\nN += 2\ndef f(x): return N", RUNS),
    # what cannot be followed
    "exec": ("N = 1\ndef f(x): exec(x)", "N = 2\ndef f(x): exec(x)", RUNS),
    "eval": ("N = 1\ndef f(x): return eval('N')", "N = 2\ndef f(x): return eval('N')", RUNS),
    "globals": ("N = 1\ndef f(x): return globals()['N']", "N = 2\ndef f(x): return globals()['N']", RUNS),
    "own function named exec": (
        "N = 1\ndef exec(a): return a\ndef f(x): return exec(x)",
        "N = 2\ndef exec(a): return a\ndef f(x): return exec(x)", SAME,
    ),
    "getattr on a module": (
        {"b.py": "N = 1", "a.py": "import b\ndef f(x): return getattr(b, x)"},
        {"b.py": "N = 2", "a.py": "import b\ndef f(x): return getattr(b, x)"}, RUNS,
    ),
    "getattr with a literal": (
        {"b.py": "N = 1\nM = 1", "a.py": "import b\ndef f(x): return getattr(b, 'N')"},
        {"b.py": "N = 1\nM = 2", "a.py": "import b\ndef f(x): return getattr(b, 'N')"}, SAME,
    ),
    "import_module of a literal": (
        {"b.py": "N = 1", "c.py": "", "a.py": "import importlib\ndef f(x): return importlib.import_module('b').N"},
        {"b.py": "N = 2", "c.py": "", "a.py": "import importlib\ndef f(x): return importlib.import_module('b').N"}, RUNS,
    ),
    "import_module of a literal, other file": (
        {"b.py": "N = 1", "c.py": "", "a.py": "import importlib\ndef f(x): return importlib.import_module('b').N"},
        {"b.py": "N = 1", "c.py": "N = 1", "a.py": "import importlib\ndef f(x): return importlib.import_module('b').N"}, SAME,
    ),
    "import_module of anything": (
        {"k/b.py": "N = 1", "a.py": "from importlib import import_module as i\ndef f(x): return i(x).N"},
        {"k/b.py": "N = 2", "a.py": "from importlib import import_module as i\ndef f(x): return i(x).N"}, RUNS,
    ),
    "comment under exec": ("N = 1\ndef f(x): exec(x)", "N = 1  # one\ndef f(x): exec(x)", SAME),
    "other step under exec": (
        STEP + "@p.step(s)\ndef f(x): exec(x)\np.endpoint('e', f)", STEP + "@p.step(s)\ndef f(x): exec(x)\np.endpoint('g', f)", SAME
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CORPUS)
def test_an_edit_counts_if_and_only_if_it_can_change_the_result(tmp_path: Path, case: str) -> None:
    before, after, runs = CORPUS[case]
    old = fingerprint(project(tmp_path / "old", before), "a.py", "f")
    new = fingerprint(project(tmp_path / "new", after), "a.py", "f")
    assert (old.digest != new.digest) == runs
    assert bool(changed_parts(old.parts, new.parts)) == runs


def test_a_difference_names_the_piece_of_code(tmp_path: Path) -> None:
    text = "LIMIT = {}\ndef clean(x):\n    return help(x)\ndef help(x):\n    return x < LIMIT\n"
    old = fingerprint(project(tmp_path / "old", text.format(1)), "a.py", "clean")
    new = fingerprint(project(tmp_path / "new", text.format(2)), "a.py", "clean")
    assert changed_parts(old.parts, new.parts) == ["a.py:LIMIT"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def f(x): exec(x)", "a.py:f uses exec(): all of a.py counts."),
        ("def f(x): return __import__(x)", "all Python files of the project count"),
        ("import b\ndef f(x): return x(b)", "uses b.py as a whole"),
    ],
)
def test_what_cannot_be_followed_is_said(tmp_path: Path, code: str, says: str) -> None:
    found = fingerprint(project(tmp_path, {"a.py": code, "b.py": "N = 1"}), "a.py", "f")
    assert any(says in sentence for sentence in found.widened)


def test_what_can_be_followed_says_nothing(tmp_path: Path) -> None:
    assert fingerprint(project(tmp_path, "def f(x): return x"), "a.py", "f").widened == ()


def test_only_the_libraries_that_are_used_count(tmp_path: Path) -> None:
    code = "import polars as pl\nimport sklearn\nimport json\nuse = sklearn\ndef f(x: pl.DataFrame): return json"
    found = fingerprint(project(tmp_path, code), "a.py", "f")
    assert [name for name in found.imports if name != "json"] == ["polars"]


def test_the_environment_names_distributions_and_versions(tmp_path: Path) -> None:
    code = "import polars, sklearn.svm, json\ndef f(x): return polars, sklearn.svm, json"
    found = environment_of(fingerprint(project(tmp_path, code), "a.py", "f"))
    assert sorted(found.packages) == ["polars", "python", "scikit-learn"]
    assert found.digest.startswith("env:")


def test_a_library_that_nothing_names_does_not_count_where_its_import_changes_nothing(
    tmp_path: Path,
) -> None:
    code = {"a.py": "import pandas\nimport polars\nimport seaborn\ndef f(x): return polars.col(x)"}
    assert fingerprint(project(tmp_path, code), "a.py", "f").imports == ("polars", "seaborn")


def test_upgrading_clew_is_no_change_of_environment(tmp_path: Path) -> None:
    code = "import clew\ndef f(x: clew.File): return x"
    assert list(environment_of(fingerprint(project(tmp_path, code), "a.py", "f")).packages) == [
        "python"
    ]


def test_a_missing_function_or_file_is_named(tmp_path: Path) -> None:
    project(tmp_path, "def f(x): return x")
    with pytest.raises(NotFound) as file:
        fingerprint(tmp_path, "b.py", "f")
    with pytest.raises(NotFound) as function:
        fingerprint(tmp_path, "a.py", "g")
    assert (file.value.code, function.value.code) == ("code.file", "code.function")


def test_broken_code_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"a\.py:2") as caught:
        fingerprint(project(tmp_path, "x = 1\ndef f(:"), "a.py", "f")
    assert caught.value.code == "code.syntax"
