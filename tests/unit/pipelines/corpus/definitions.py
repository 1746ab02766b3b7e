"""Small programs with an edit each: classes, decorators and functions that make functions; read by ``test_fingerprint_corpus``."""

# ruff: noqa: E501 - a program and its edit stand side by side

from __future__ import annotations

RUNS, SAME, COSTS = "runs", "same", "costs"

CASES: dict[str, tuple[dict[str, str] | str, dict[str, str] | str, str]] = {
    "slots": (
        "class C:\n __slots__=('a',)\ndef f(x): return C()",
        "class C:\n __slots__=('b',)\ndef f(x): return C()", RUNS,
    ),
    "property": (
        "class C:\n @property\n def p(self): return 1\ndef f(x): return C().p",
        "class C:\n @property\n def p(self): return 2\ndef f(x): return C().p", RUNS,
    ),
    "setter": (
        "class C:\n @property\n def p(self): return 1\n @p.setter\n def p(self, v): self.a=v\ndef f(x): return C().p",
        "class C:\n @property\n def p(self): return 1\n @p.setter\n def p(self, v): self.b=v\ndef f(x): return C().p", RUNS,
    ),
    "class decorator": (
        "def d(c):\n c.n=1\n return c\n@d\nclass C: pass\ndef f(x): return C.n",
        "def d(c):\n c.n=2\n return c\n@d\nclass C: pass\ndef f(x): return C.n", RUNS,
    ),
    "mixin order": (
        "class A: n=1\nclass B: n=2\nclass C(A,B): pass\ndef f(x): return C.n",
        "class A: n=1\nclass B: n=2\nclass C(B,A): pass\ndef f(x): return C.n", RUNS,
    ),
    "super": (
        "class B:\n def m(self): return 1\nclass C(B):\n def m(self): return super().m()\ndef f(x): return C().m()",
        "class B:\n def m(self): return 2\nclass C(B):\n def m(self): return super().m()\ndef f(x): return C().m()", RUNS,
    ),
    "unused method": (
        "class C:\n def m(self): return 1\n def k(self): return 1\ndef f(x): return C().m()",
        "class C:\n def m(self): return 1\n def k(self): return 2\ndef f(x): return C().m()", COSTS,
    ),
    "dunder": (
        "class C:\n def __add__(s,o): return 1\ndef f(x): return C()+x",
        "class C:\n def __add__(s,o): return 2\ndef f(x): return C()+x", RUNS,
    ),
    "enum": (
        "from enum import Enum\nclass E(Enum):\n A=1\ndef f(x): return E.A.value",
        "from enum import Enum\nclass E(Enum):\n A=2\ndef f(x): return E.A.value", RUNS,
    ),
    "named tuple": (
        "from typing import NamedTuple\nclass T(NamedTuple):\n a: int = 1\ndef f(x): return T()",
        "from typing import NamedTuple\nclass T(NamedTuple):\n a: int = 2\ndef f(x): return T()", RUNS,
    ),
    "dataclass default factory": (
        "from dataclasses import dataclass, field\ndef d(): return 1\n@dataclass\nclass C:\n a: int = field(default_factory=d)\ndef f(x): return C()",
        "from dataclasses import dataclass, field\ndef d(): return 2\n@dataclass\nclass C:\n a: int = field(default_factory=d)\ndef f(x): return C()", RUNS,
    ),
    "protocol only in hints": (
        "from typing import Protocol\nclass P(Protocol):\n def m(self): ...\ndef f(x):\n a: P = x\n return a",
        "from typing import Protocol\nclass P(Protocol):\n def k(self): ...\ndef f(x):\n a: P = x\n return a", SAME,
    ),
    "instance at module level": (
        "class C:\n def __init__(s, n): s.n=n\nc = C(1)\ndef f(x): return c.n",
        "class C:\n def __init__(s, n): s.n=n\nc = C(2)\ndef f(x): return c.n", RUNS,
    ),
    "bound method": (
        "class C:\n def m(self, x): return 1\nm = C().m\ndef f(x): return m(x)",
        "class C:\n def m(self, x): return 2\nm = C().m\ndef f(x): return m(x)", RUNS,
    ),
    "attribute set on an instance": (
        "class C: pass\nc=C()\nc.n=1\ndef f(x): return c.n",
        "class C: pass\nc=C()\nc.n=2\ndef f(x): return c.n", RUNS,
    ),
    "setattr at module level": (
        "class C: pass\nsetattr(C,'n',1)\ndef f(x): return C.n",
        "class C: pass\nsetattr(C,'n',2)\ndef f(x): return C.n", RUNS,
    ),
    "abstract implementation by registry": (
        "R=[]\nclass M(type):\n def __new__(m,n,b,d):\n  c=super().__new__(m,n,b,d)\n  R.append(c)\n  return c\nclass A(metaclass=M): n=1\ndef f(x): return R[0].n",
        "R=[]\nclass M(type):\n def __new__(m,n,b,d):\n  c=super().__new__(m,n,b,d)\n  R.append(c)\n  return c\nclass A(metaclass=M): n=2\ndef f(x): return R[0].n", RUNS,
    ),
    "subclass of a registering base elsewhere": (
        {"b.py": "class B:\n all=[]\n def __init_subclass__(c): B.all.append(c)", "a.py": "from b import B\nclass C(B): n=1\ndef f(x): return B.all[0].n"},
        {"b.py": "class B:\n all=[]\n def __init_subclass__(c): B.all.append(c)", "a.py": "from b import B\nclass C(B): n=2\ndef f(x): return B.all[0].n"}, RUNS,
    ),
    "grandchild of a registering base": (
        "class B:\n all=[]\n def __init_subclass__(c): B.all.append(c)\nclass D(B): pass\nclass C(D): n=1\ndef f(x): return B.all[1].n",
        "class B:\n all=[]\n def __init_subclass__(c): B.all.append(c)\nclass D(B): pass\nclass C(D): n=2\ndef f(x): return B.all[1].n", RUNS,
    ),
    "subclasses()": (
        "class B: pass\nclass C(B): n=1\ndef f(x): return [c.n for c in B.__subclasses__()]",
        "class B: pass\nclass C(B): n=2\ndef f(x): return [c.n for c in B.__subclasses__()]", RUNS,
    ),
    "wraps": (
        "import functools\ndef d(g):\n @functools.wraps(g)\n def w(*a): return g(*a)+1\n return w\n@d\ndef f(x): return x",
        "import functools\ndef d(g):\n @functools.wraps(g)\n def w(*a): return g(*a)+2\n return w\n@d\ndef f(x): return x", RUNS,
    ),
    "lru_cache size": (
        "from functools import lru_cache\n@lru_cache(1)\ndef g(a): return a\ndef f(x): return g(x)",
        "from functools import lru_cache\n@lru_cache(2)\ndef g(a): return a\ndef f(x): return g(x)", COSTS,
    ),
    "function attribute": (
        "def g(): return g.n\ng.n=1\ndef f(x): return g()",
        "def g(): return g.n\ng.n=2\ndef f(x): return g()", RUNS,
    ),
    "decorator from another file": (
        {"b.py": "def d(g): return lambda x: g(x)+1", "a.py": "from b import d\n@d\ndef f(x): return x"},
        {"b.py": "def d(g): return lambda x: g(x)+2", "a.py": "from b import d\n@d\ndef f(x): return x"}, RUNS,
    ),
    "registry in another file": (
        {"b.py": "R={}\ndef reg(g):\n R[g.__name__]=g\n return g", "a.py": "from b import R, reg\n@reg\ndef h(): return 1\ndef f(x): return R['h']()"},
        {"b.py": "R={}\ndef reg(g):\n R[g.__name__]=g\n return g", "a.py": "from b import R, reg\n@reg\ndef h(): return 2\ndef f(x): return R['h']()"}, RUNS,
    ),
    "registry filled by a third file": (
        {"b.py": "R={}\ndef reg(g):\n R[g.__name__]=g\n return g", "c.py": "from b import reg\n@reg\ndef h(): return 1", "a.py": "import c\nfrom b import R\ndef f(x): return R['h']()"},
        {"b.py": "R={}\ndef reg(g):\n R[g.__name__]=g\n return g", "c.py": "from b import reg\n@reg\ndef h(): return 2", "a.py": "import c\nfrom b import R\ndef f(x): return R['h']()"}, RUNS,
    ),
    "registry filled by from-import": (
        {"b.py": "R={}\ndef reg(g):\n R[g.__name__]=g\n return g", "c.py": "from b import reg\nK=1\n@reg\ndef h(): return 1", "a.py": "from c import K\nfrom b import R\ndef f(x): return R['h']()"},
        {"b.py": "R={}\ndef reg(g):\n R[g.__name__]=g\n return g", "c.py": "from b import reg\nK=1\n@reg\ndef h(): return 2", "a.py": "from c import K\nfrom b import R\ndef f(x): return R['h']()"}, RUNS,
    ),
    "alias of a helper": (
        "def g(): return 1\nh=g\ndef f(x): return h()",
        "def g(): return 2\nh=g\ndef f(x): return h()", RUNS,
    ),
    "conditional helper": (
        "import sys\nif sys.version_info > (3,):\n def g(): return 1\nelse:\n def g(): return 0\ndef f(x): return g()",
        "import sys\nif sys.version_info > (3,):\n def g(): return 2\nelse:\n def g(): return 0\ndef f(x): return g()", RUNS,
    ),
    "operator methodcaller": (
        "from operator import methodcaller\nm=methodcaller('a')\ndef f(x): return m(x)",
        "from operator import methodcaller\nm=methodcaller('b')\ndef f(x): return m(x)", RUNS,
    ),
    "overload stubs": (
        "from typing import overload\n@overload\ndef g(a: int) -> int: ...\n@overload\ndef g(a: str) -> str: ...\ndef g(a): return a\ndef f(x): return g(x)",
        "from typing import overload\n@overload\ndef g(a: int) -> int: ...\ndef g(a): return a\ndef f(x): return g(x)", COSTS,
    ),
    "keyword default of helper": (
        "def g(*, n=1): return n\ndef f(x): return g()",
        "def g(*, n=2): return n\ndef f(x): return g()", RUNS,
    ),
    "positional only": (
        "def g(a): return a\ndef f(x): return g(x)",
        "def g(a, /): return a\ndef f(x): return g(x)", RUNS,
    ),
    "generator helper": (
        "def g():\n yield 1\ndef f(x): return list(g())",
        "def g():\n yield 2\ndef f(x): return list(g())", RUNS,
    ),
    "closure constant": (
        "def make():\n n=1\n def g(): return n\n return g\ng=make()\ndef f(x): return g()",
        "def make():\n n=2\n def g(): return n\n return g\ng=make()\ndef f(x): return g()", RUNS,
    ),
}  # fmt: skip
