"""Small programs with an edit each: scopes, patterns of names, and the order of things; read by ``test_fingerprint_corpus``."""

# ruff: noqa: E501 - a program and its edit stand side by side

from __future__ import annotations

RUNS, SAME, COSTS = "runs", "same", "costs"

CASES: dict[str, tuple[dict[str, str] | str, dict[str, str] | str, str]] = {
    "local named in a query": (
        "import duckdb\ndef f(x):\n a, b = x\n return duckdb.sql('select * from a')",
        "import duckdb\ndef f(x):\n b, a = x\n return duckdb.sql('select * from a')", RUNS,
    ),
    "frame looked at": (
        "import sys\ndef f(x):\n a = x\n return sys._getframe().f_locals",
        "import sys\ndef f(x):\n b = x\n return sys._getframe().f_locals", RUNS,
    ),
    "renamed variable of a with": (
        "def f(x):\n with x() as a: return a",
        "def f(x):\n with x() as b: return b", SAME,
    ),
    "renamed exception": (
        "def f(x):\n try: x()\n except E as a: return a",
        "def f(x):\n try: x()\n except E as b: return b", SAME,
    ),
    "renamed capture": (
        "def f(x):\n match x:\n  case [a, *b]: return a, b",
        "def f(x):\n match x:\n  case [c, *d]: return c, d", SAME,
    ),
    "renamed nonlocal": (
        "def f(x):\n n = 0\n def g():\n  nonlocal n\n  n += 1\n g()\n return n",
        "def f(x):\n m = 0\n def g():\n  nonlocal m\n  m += 1\n g()\n return m", SAME,
    ),
    "nonlocal or local": (
        "def f(x):\n n = 0\n def g():\n  nonlocal n\n  n = 1\n g()\n return n",
        "def f(x):\n n = 0\n def g():\n  n = 1\n g()\n return n", RUNS,
    ),
    "global or local": (
        "n=5\ndef f(x):\n n = 0\n def g():\n  global n\n  return n\n return g()",
        "n=5\ndef f(x):\n n = 0\n def g():\n  return n\n return g()", RUNS,
    ),
    "renamed inner function": (
        "def f(x):\n def g(): return 1\n return g()",
        "def f(x):\n def h(): return 1\n return h()", RUNS,
    ),
    "comprehension variable hides": (
        "def f(x):\n a = 1\n return [a for a in x], a",
        "def f(x):\n a = 1\n return [b for b in x], a", SAME,
    ),
    "comprehension variable or outer": (
        "def f(x):\n a = 1\n return [a for a in x]",
        "def f(x):\n a = 1\n return [a for b in x]", RUNS,
    ),
    "nested comprehensions": (
        "def f(x): return [[b for b in a] for a in x]",
        "def f(x): return [[a for b in a] for a in x]", RUNS,
    ),
    "inner iterable of a comprehension": (
        "def f(x): return [b for a in x for b in a]",
        "def f(x): return [b for a in x for b in x]", RUNS,
    ),
    "variable of a loop is read later": (
        "def f(x):\n for i in x: pass\n return i",
        "def f(x):\n for j in x: pass\n return j", SAME,
    ),
    "unpacked differently": (
        "def f(x):\n for a, b in x: yield a",
        "def f(x):\n for b, a in x: yield a", RUNS,
    ),
    "method renames a local": (
        "class C:\n def m(self):\n  a = 1\n  return a\ndef f(x): return C().m()",
        "class C:\n def m(self):\n  b = 1\n  return b\ndef f(x): return C().m()", SAME,
    ),
    "class attribute is no local": (
        "def f(x):\n class C:\n  a = 1\n return C",
        "def f(x):\n class C:\n  b = 1\n return C", RUNS,
    ),
    "import alias in a function": (
        "def f(x):\n import json as j\n return j.dumps(x)",
        "def f(x):\n import pickle as j\n return j.dumps(x)", RUNS,
    ),
    "star import order": (
        {"b.py": "N=1", "c.py": "N=2", "a.py": "from b import *\nfrom c import *\ndef f(x): return N"},
        {"b.py": "N=1", "c.py": "N=2", "a.py": "from c import *\nfrom b import *\ndef f(x): return N"}, RUNS,
    ),
    "bound twice by imports": (
        {"b.py": "N=1", "c.py": "N=2", "a.py": "from b import N\nfrom c import N\ndef f(x): return N"},
        {"b.py": "N=1", "c.py": "N=2", "a.py": "from c import N\nfrom b import N\ndef f(x): return N"}, RUNS,
    ),
    "import then assignment": (
        {"b.py": "N=1", "a.py": "from b import N\nN=5\ndef f(x): return N"},
        {"b.py": "N=1", "a.py": "N=5\nfrom b import N\ndef f(x): return N"}, RUNS,
    ),
    "order of two assignments": (
        "N=1\nN=2\ndef f(x): return N",
        "N=2\nN=1\ndef f(x): return N", RUNS,
    ),
    "order of appends": (
        "T=[]\nT.append(1)\nT.append(2)\ndef f(x): return T",
        "T=[]\nT.append(2)\nT.append(1)\ndef f(x): return T", RUNS,
    ),
    "order of registrations": (
        "R=[]\ndef reg(g):\n R.append(g)\n return g\n@reg\ndef a(): return 1\n@reg\ndef b(): return 2\ndef f(x): return R[0]()",
        "R=[]\ndef reg(g):\n R.append(g)\n return g\n@reg\ndef b(): return 2\n@reg\ndef a(): return 1\ndef f(x): return R[0]()", RUNS,
    ),
    "order of imported registrations": (
        {"b.py": "R=[]\ndef reg(g):\n R.append(g)\n return g", "c.py": "from b import reg\n@reg\ndef h(): return 1", "d.py": "from b import reg\n@reg\ndef k(): return 2", "a.py": "import c, d\nfrom b import R\ndef f(x): return R[0]()"},
        {"b.py": "R=[]\ndef reg(g):\n R.append(g)\n return g", "c.py": "from b import reg\n@reg\ndef h(): return 1", "d.py": "from b import reg\n@reg\ndef k(): return 2", "a.py": "import d, c\nfrom b import R\ndef f(x): return R[0]()"}, RUNS,
    ),
    "constant read before it changes": (
        "N=1\nM=N\nN=2\ndef f(x): return M",
        "N=1\nN=2\nM=N\ndef f(x): return M", RUNS,
    ),
    "class used before it is patched": (
        "class C: n=1\nc=C.n\nC.n=2\ndef f(x): return c",
        "class C: n=1\nC.n=2\nc=C.n\ndef f(x): return c", RUNS,
    ),
}  # fmt: skip
