"""More small programs with an edit each, along the language reference; see ``test_fingerprint``.

``COSTS``: the edit cannot change the result, and the step runs all the same. That is allowed, but
for one case in twenty at most; a missed change never is.
"""

# ruff: noqa: E501 (a program and its edit stand side by side)

from __future__ import annotations

from pathlib import Path

import pytest

from clew.pipelines import fingerprint
from clew.pipelines.fingerprint import changed_parts

RUNS, SAME, COSTS = "runs", "same", "costs"

# name: (before, after, must run again)
CORPUS: dict[str, tuple[dict[str, str] | str, dict[str, str] | str, str]] = {
    "renamed local": (
        "def f(x):\n a = x\n return a",
        "def f(x):\n b = x\n return b", SAME,
    ),
    "renamed loop variable": (
        "def f(x): return [i for i in x]",
        "def f(x): return [j for j in x]", SAME,
    ),
    "swapped locals": (
        "def f(x):\n a, b = x\n return a - b",
        "def f(x):\n b, a = x\n return a - b", RUNS,
    ),
    "local renamed to what it hides": (
        "N=1\ndef f(x):\n a = x\n return a + N",
        "N=1\ndef f(x):\n N = x\n return N + N", RUNS,
    ),
    "renamed parameter of the step": (
        "def f(x): return x",
        "def f(y): return y", RUNS,
    ),
    "renamed parameter of a helper": (
        "def g(a): return a\ndef f(x): return g(x)",
        "def g(b): return b\ndef f(x): return g(x)", COSTS,
    ),
    "renamed parameter called by keyword": (
        "def g(a): return a\ndef f(x): return g(a=x)",
        "def g(b): return b\ndef f(x): return g(b=x)", RUNS,
    ),
    "locals() reads names": (
        "def f(x):\n a = x\n return locals()",
        "def f(x):\n b = x\n return locals()", RUNS,
    ),
    "renamed helper": (
        "def g(a): return a\ndef f(x): return g(x)",
        "def h(a): return a\ndef f(x): return h(x)", RUNS,
    ),
    "nonlocal": (
        "def f(x):\n n = 0\n def g():\n  nonlocal n\n  n += 1\n g()\n return n",
        "def f(x):\n n = 0\n def g():\n  nonlocal n\n  n += 2\n g()\n return n", RUNS,
    ),
    "class body reads a global": (
        "N=1\ndef f(x):\n class C:\n  n = N\n return C.n",
        "N=2\ndef f(x):\n class C:\n  n = N\n return C.n", RUNS,
    ),
    "del of a global": (
        "N=1\nM=N\ndel N\ndef f(x): return M",
        "N=2\nM=N\ndel N\ndef f(x): return M", RUNS,
    ),
    "builtin hidden by a helper": (
        "def f(x): return len(x)",
        "def len(x): return 3\ndef f(x): return len(x)", RUNS,
    ),
    "builtin hidden by star": (
        {"b.py": "", "a.py": "from b import *\ndef f(x): return len(x)"},
        {"b.py": "def len(x): return 1", "a.py": "from b import *\ndef f(x): return len(x)"}, RUNS,
    ),
    "comprehension in class scope": (
        "N=1\nclass C:\n N=5\n v=[N for _ in range(2)]\ndef f(x): return C.v",
        "N=2\nclass C:\n N=5\n v=[N for _ in range(2)]\ndef f(x): return C.v", RUNS,
    ),
    "default evaluated outside": (
        "N=1\ndef f(x, a=lambda: N): return a()",
        "N=2\ndef f(x, a=lambda: N): return a()", RUNS,
    ),
    "walrus in comprehension": (
        "y=1\ndef f(x):\n z=[y:=v for v in x]\n return y",
        "y=2\ndef f(x):\n z=[y:=v for v in x]\n return y", SAME,
    ),
    "type alias": (
        "A = int\ndef f(x): return isinstance(x, A)",
        "A = str\ndef f(x): return isinstance(x, A)", RUNS,
    ),
    "slice": (
        "def f(x): return x[1:]",
        "def f(x): return x[2:]", RUNS,
    ),
    "operator": (
        "def f(x): return x < 1",
        "def f(x): return x <= 1", RUNS,
    ),
    "chained comparison": (
        "def f(x): return 0 < x < 1",
        "def f(x): return 0 < x and x < 1", COSTS,
    ),
    "raw string same": (
        "def f(x): return '\\\\d'",
        "def f(x): return r'\\d'", SAME,
    ),
    "bytes to text": (
        "def f(x): return b'a'",
        "def f(x): return 'a'", RUNS,
    ),
    "negative zero": (
        "def f(x): return 0.0",
        "def f(x): return -0.0", RUNS,
    ),
    "nan spelled": (
        "def f(x): return float('nan')",
        "def f(x): return float('inf')", RUNS,
    ),
    "hex number": (
        "def f(x): return 255",
        "def f(x): return 0xff", SAME,
    ),
    "complex": (
        "def f(x): return 1j",
        "def f(x): return 2j", RUNS,
    ),
    "ellipsis": (
        "def f(x): return ...",
        "def f(x): return None", RUNS,
    ),
    "f-string conversion": (
        "def f(x): return f'{x!r}'",
        "def f(x): return f'{x!s}'", RUNS,
    ),
    "f-string debug": (
        "def f(x): return f'{x=}'",
        "def f(x): return f'{x}'", RUNS,
    ),
    "f-string of a constant": (
        "N=1\ndef f(x): return f'{N}'",
        "N=2\ndef f(x): return f'{N}'", RUNS,
    ),
    "f-string nested format": (
        "W=1\ndef f(x): return f'{x:{W}}'",
        "W=2\ndef f(x): return f'{x:{W}}'", RUNS,
    ),
    "parentheses": (
        "def f(x): return (x + 1) * 2",
        "def f(x): return ((x + 1)) * (2)", SAME,
    ),
    "precedence": (
        "def f(x): return (x + 1) * 2",
        "def f(x): return x + 1 * 2", RUNS,
    ),
    "unpacking in call": (
        "A=[1]\ndef f(x): return x(*A)",
        "A=[2]\ndef f(x): return x(*A)", RUNS,
    ),
    "keyword unpacking": (
        "A={'a':1}\ndef f(x): return x(**A)",
        "A={'a':2}\ndef f(x): return x(**A)", RUNS,
    ),
    "await": (
        "async def f(x): return await x",
        "async def f(x): return x", RUNS,
    ),
    "yield": (
        "def f(x): yield x",
        "def f(x): return x", RUNS,
    ),
    "yield from": (
        "def f(x): yield from x",
        "def f(x): yield x", RUNS,
    ),
    "starred assignment": (
        "def f(x):\n a, *b = x\n return b",
        "def f(x):\n *a, b = x\n return b", RUNS,
    ),
    "set and dict order": (
        "def f(x): return {1, 2}",
        "def f(x): return {2, 1}", COSTS,
    ),
    "conditional": (
        "def f(x): return 1 if x else 2",
        "def f(x): return 2 if x else 1", RUNS,
    ),
    "lambda body": (
        "def f(x): return map(lambda a: a+1, x)",
        "def f(x): return map(lambda a: a+2, x)", RUNS,
    ),
    "renamed lambda argument": (
        "def f(x): return map(lambda a: a+1, x)",
        "def f(x): return map(lambda b: b+1, x)", COSTS,
    ),
    "augmented": (
        "def f(x):\n x += 1\n return x",
        "def f(x):\n x -= 1\n return x", RUNS,
    ),
    "annotated assign": (
        "def f(x):\n y = 1\n return y",
        "def f(x):\n y: float = 1\n return y", SAME,
    ),
    "try else": (
        "def f(x):\n try: a=1\n except E: a=2\n return a",
        "def f(x):\n try: a=1\n except E: a=3\n return a", RUNS,
    ),
    "exception class": (
        "class E(Exception): pass\ndef f(x):\n try: return x()\n except E: return 1",
        "class E(KeyError): pass\ndef f(x):\n try: return x()\n except E: return 1", RUNS,
    ),
    "except star": (
        "def f(x):\n try: x()\n except* ValueError: return 1",
        "def f(x):\n try: x()\n except* KeyError: return 1", RUNS,
    ),
    "with": (
        "def f(x):\n with x as a: return a",
        "def f(x):\n with x as a: return 1", RUNS,
    ),
    "context manager helper": (
        "import contextlib\n@contextlib.contextmanager\ndef c():\n yield 1\ndef f(x):\n with c() as a: return a",
        "import contextlib\n@contextlib.contextmanager\ndef c():\n yield 2\ndef f(x):\n with c() as a: return a", RUNS,
    ),
    "match value": (
        "class C: A=1\ndef f(x):\n match x:\n  case C.A: return 1",
        "class C: A=2\ndef f(x):\n match x:\n  case C.A: return 1", RUNS,
    ),
    "match class": (
        "class C:\n __match_args__=('a',)\ndef f(x):\n match x:\n  case C(1): return 1",
        "class C:\n __match_args__=('b',)\ndef f(x):\n match x:\n  case C(1): return 1", RUNS,
    ),
    "while else": (
        "def f(x):\n while x: x-=1\n else: return 1",
        "def f(x):\n while x: x-=1\n else: return 2", RUNS,
    ),
    "import as local": (
        {"b.py": "N=1", "a.py": "def f(x):\n import b as c\n return c.N"},
        {"b.py": "N=2", "a.py": "def f(x):\n import b as c\n return c.N"}, RUNS,
    ),
    "raise from": (
        "def f(x):\n raise ValueError from x",
        "def f(x):\n raise ValueError", RUNS,
    ),
    "dead code after return": (
        "def f(x): return 1",
        "def f(x):\n return 1\n print(2)", COSTS,
    ),
    "blank lines and semicolons": (
        "def f(x):\n a = 1; b = 2\n return a+b",
        "def f(x):\n\n a = 1\n\n b = 2\n return a+b", SAME,
    ),
    "line continuation": (
        "def f(x): return 1 + 2",
        "def f(x): return 1 + \\\n  2", SAME,
    ),
    "global in other function": (
        "N=[1]\ndef g():\n N.append(2)\ndef f(x):\n g()\n return N",
        "N=[1]\ndef g():\n N.append(3)\ndef f(x):\n g()\n return N", RUNS,
    ),
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
    "step moved to another file": (
        {"a.py": "def f(x): return x+1"},
        {"a.py": "from b import f", "b.py": "def f(x): return x+1"}, SAME,
    ),
    "helper moved to another file": (
        {"a.py": "def g(): return 1\ndef f(x): return g()"},
        {"a.py": "from b import g\ndef f(x): return g()", "b.py": "def g(): return 1"}, SAME,
    ),
    "from package import module": (
        {"k/__init__.py": "", "k/b.py": "N=1", "a.py": "from k import b\ndef f(x): return b.N"},
        {"k/__init__.py": "", "k/b.py": "N=2", "a.py": "from k import b\ndef f(x): return b.N"}, RUNS,
    ),
    "package init side effect": (
        {"k/__init__.py": "X=1", "k/b.py": "N=1", "a.py": "from k.b import N\ndef f(x): return N"},
        {"k/__init__.py": "X=2", "k/b.py": "N=1", "a.py": "from k.b import N\ndef f(x): return N"}, SAME,
    ),
    "package init patches a module": (
        {"k/__init__.py": "from k import b\nb.N=5", "k/b.py": "N=1", "a.py": "from k.b import N\ndef f(x): return N"},
        {"k/__init__.py": "from k import b\nb.N=6", "k/b.py": "N=1", "a.py": "from k.b import N\ndef f(x): return N"}, RUNS,
    ),
    "module constant patched by the user": (
        {"b.py": "N=1\ndef g(): return N", "a.py": "import b\nb.N=2\ndef f(x): return b.g()"},
        {"b.py": "N=1\ndef g(): return N", "a.py": "import b\nb.N=3\ndef f(x): return b.g()"}, RUNS,
    ),
    "relative in nested": (
        {"k/__init__.py": "", "k/l/__init__.py": "", "k/c.py": "N=1", "k/l/b.py": "from ..c import N", "a.py": "from k.l.b import N\ndef f(x): return N"},
        {"k/__init__.py": "", "k/l/__init__.py": "", "k/c.py": "N=2", "k/l/b.py": "from ..c import N", "a.py": "from k.l.b import N\ndef f(x): return N"}, RUNS,
    ),
    "star through package": (
        {"k/__init__.py": "from .b import *", "k/b.py": "N=1", "a.py": "import k\ndef f(x): return k.N"},
        {"k/__init__.py": "from .b import *", "k/b.py": "N=2", "a.py": "import k\ndef f(x): return k.N"}, RUNS,
    ),
    "star with __all__": (
        {"b.py": "__all__=['N']\nN=1", "a.py": "from b import *\ndef f(x): return N"},
        {"b.py": "__all__=['N']\nN=2", "a.py": "from b import *\ndef f(x): return N"}, RUNS,
    ),
    "module getattr": (
        {"b.py": "def __getattr__(n): return 1", "a.py": "import b\ndef f(x): return b.anything"},
        {"b.py": "def __getattr__(n): return 2", "a.py": "import b\ndef f(x): return b.anything"}, RUNS,
    ),
    "import in try in helper": (
        {"b.py": "N=1", "a.py": "def g():\n try:\n  from b import N\n except ImportError:\n  N=0\n return N\ndef f(x): return g()"},
        {"b.py": "N=2", "a.py": "def g():\n try:\n  from b import N\n except ImportError:\n  N=0\n return N\ndef f(x): return g()"}, RUNS,
    ),
    "src layout": (
        {"src/k/__init__.py": "", "src/k/b.py": "N=1", "a.py": "from k.b import N\ndef f(x): return N"},
        {"src/k/__init__.py": "", "src/k/b.py": "N=2", "a.py": "from k.b import N\ndef f(x): return N"}, RUNS,
    ),
    "import removed": (
        "import json\ndef f(x): return x",
        "def f(x): return x", SAME,
    ),
    "order of imports": (
        "import json\nimport math\ndef f(x): return json, math",
        "import math\nimport json\ndef f(x): return json, math", SAME,
    ),
    "import style": (
        "import json\ndef f(x): return json.dumps(x)",
        "from json import dumps\ndef f(x): return dumps(x)", RUNS,
    ),
    "getattr default": (
        {"b.py": "N=1", "a.py": "import b\ndef f(x): return getattr(b,'N',0)"},
        {"b.py": "N=2", "a.py": "import b\ndef f(x): return getattr(b,'N',0)"}, RUNS,
    ),
    "vars of a module": (
        {"b.py": "N=1", "a.py": "import b\ndef f(x): return vars(b)[x]"},
        {"b.py": "N=2", "a.py": "import b\ndef f(x): return vars(b)[x]"}, RUNS,
    ),
    "module __dict__": (
        {"b.py": "N=1", "a.py": "import b\ndef f(x): return b.__dict__[x]"},
        {"b.py": "N=2", "a.py": "import b\ndef f(x): return b.__dict__[x]"}, RUNS,
    ),
    "builtins through module": (
        "import builtins\nN=1\ndef f(x): return builtins.eval('N')",
        "import builtins\nN=2\ndef f(x): return builtins.eval('N')", RUNS,
    ),
    "eval under another name": (
        "e=eval\nN=1\ndef f(x): return e('N')",
        "e=eval\nN=2\ndef f(x): return e('N')", RUNS,
    ),
    "globals via function": (
        "N=1\ndef f(x): return f.__globals__['N']",
        "N=2\ndef f(x): return f.__globals__['N']", RUNS,
    ),
    "vars without argument": (
        "N=1\nV=vars()\ndef f(x): return V['N']",
        "N=2\nV=vars()\ndef f(x): return V['N']", RUNS,
    ),
    "sys.modules of itself": (
        "import sys\nN=1\ndef f(x): return getattr(sys.modules[__name__], 'N')",
        "import sys\nN=2\ndef f(x): return getattr(sys.modules[__name__], 'N')", RUNS,
    ),
    "inspect source": (
        "import inspect\ndef f(x): return inspect.getsource(f)",
        "import inspect\ndef f(x): return inspect.getsource(f)  # c", RUNS,
    ),
    "docstring read": (
        "def g():\n 'one'\ndef f(x): return g.__doc__",
        "def g():\n 'two'\ndef f(x): return g.__doc__", RUNS,
    ),
    "annotations read": (
        "def g(a: int): pass\ndef f(x): return g.__annotations__",
        "def g(a: str): pass\ndef f(x): return g.__annotations__", RUNS,
    ),
    "get_type_hints": (
        "import typing\ndef g(a: int): pass\ndef f(x): return typing.get_type_hints(g)",
        "import typing\ndef g(a: str): pass\ndef f(x): return typing.get_type_hints(g)", RUNS,
    ),
    "name of a function": (
        "def g(): pass\ndef f(x): return g.__name__",
        "def h(): pass\ndef f(x): return h.__name__", RUNS,
    ),
    "pydantic-like model": (
        "class M:\n def __init_subclass__(c): pass\nclass A(M):\n n: int\ndef f(x): return A()",
        "class M:\n def __init_subclass__(c): pass\nclass A(M):\n n: str\ndef f(x): return A()", RUNS,
    ),
    "file marker": (
        "from pathlib import Path\ndef f(x): return Path(__file__).name",
        "from pathlib import Path\ndef f(x): return Path(__file__).name # c", SAME,
    ),
    "environment default": (
        "import os\nA=os.environ.get('A','1')\ndef f(x): return A",
        "import os\nA=os.environ.get('A','2')\ndef f(x): return A", RUNS,
    ),
    "logging only": (
        "import logging\nlog=logging.getLogger('a')\ndef f(x): return x",
        "import logging\nlog=logging.getLogger('b')\ndef f(x): return x", SAME,
    ),
    "warnings filter": (
        "import warnings\nwarnings.simplefilter('ignore')\ndef f(x): return x",
        "import warnings\nwarnings.simplefilter('error')\ndef f(x): return x", SAME,
    ),
    "pandas option": (
        "import pandas as pd\npd.set_option('a',1)\ndef f(x): return pd.DataFrame(x)",
        "import pandas as pd\npd.set_option('a',2)\ndef f(x): return pd.DataFrame(x)", RUNS,
    ),
    "option of an unused library": (
        "import pandas as pd\npd.set_option('a',1)\ndef f(x): return x",
        "import pandas as pd\npd.set_option('a',2)\ndef f(x): return x", RUNS,
    ),
    "environ set at the top": (
        "import os\nos.environ['A']='1'\ndef f(x): return os.environ['A']",
        "import os\nos.environ['A']='2'\ndef f(x): return os.environ['A']", RUNS,
    ),
    "environ set, read elsewhere": (
        "import os\nos.environ['OMP']='1'\ndef f(x): return x",
        "import os\nos.environ['OMP']='2'\ndef f(x): return x", RUNS,
    ),
    "sys.path changed": (
        {"lib/b.py": "N=1", "a.py": "import sys\nsys.path.insert(0,'lib')\nfrom b import N\ndef f(x): return N"},
        {"lib/b.py": "N=2", "a.py": "import sys\nsys.path.insert(0,'lib')\nfrom b import N\ndef f(x): return N"}, RUNS,
    ),
    "imported name swapped in the standard library": (
        "from math import sin as h\ndef f(x): return h(x)",
        "from math import cos as h\ndef f(x): return h(x)", RUNS,
    ),
    "same name from another library": (
        "from json import dumps\ndef f(x): return dumps(x)",
        "from pickle import dumps\ndef f(x): return dumps(x)", RUNS,
    ),
    "module under another name": (
        "import json as j\ndef f(x): return j.dumps(x)",
        "import pickle as j\ndef f(x): return j.dumps(x)", RUNS,
    ),
    "aliases of helpers swapped": (
        {"b.py": "def g(): return 1\ndef k(): return 2", "a.py": "from b import g as h, k as m\ndef f(x): return h()-m()"},
        {"b.py": "def g(): return 1\ndef k(): return 2", "a.py": "from b import k as h, g as m\ndef f(x): return h()-m()"}, RUNS,
    ),
    "aliases of modules swapped": (
        {"b.py": "N=1", "d.py": "N=2", "a.py": "import b as c, d as e\ndef f(x): return c.N-e.N"},
        {"b.py": "N=1", "d.py": "N=2", "a.py": "import d as c, b as e\ndef f(x): return c.N-e.N"}, RUNS,
    ),
    "same name from another file": (
        {"b.py": "N=1", "d.py": "N=2", "a.py": "from b import N\nimport d\ndef f(x): return N-d.N"},
        {"b.py": "N=1", "d.py": "N=2", "a.py": "from d import N\nimport d\ndef f(x): return N-d.N"}, RUNS,
    ),
    "same name in two files, bodies swapped": (
        {"b.py": "def g(): return 1", "d.py": "def g(): return 2", "a.py": "import b, d\ndef f(x): return b.g()-d.g()"},
        {"b.py": "def g(): return 2", "d.py": "def g(): return 1", "a.py": "import b, d\ndef f(x): return b.g()-d.g()"}, RUNS,
    ),
    "fallback order of imports": (
        "try:\n from json import dumps\nexcept ImportError:\n from pickle import dumps\ndef f(x): return dumps(x)",
        "try:\n from pickle import dumps\nexcept ImportError:\n from json import dumps\ndef f(x): return dumps(x)", RUNS,
    ),
    "star of another library": (
        "from math import *\ndef f(x): return floor(x)",
        "from numpy import *\ndef f(x): return floor(x)", RUNS,
    ),
    "helper moved with its constant": (
        {"a.py": "N=1\ndef g(): return N\ndef f(x): return g()"},
        {"a.py": "from b import g\ndef f(x): return g()", "b.py": "N=1\ndef g(): return N"}, SAME,
    ),
    "helper moved, constant stays": (
        {"a.py": "N=1\ndef g(): return N\ndef f(x): return g()"},
        {"a.py": "from b import g\nN=1\ndef f(x): return g()", "b.py": "N=2\ndef g(): return N"}, RUNS,
    ),
    "seed for libraries": (
        "import random\nimport numpy as np\nnp.random.seed(1)\nfrom sklearn.svm import SVC\ndef f(x): return SVC().fit(x)",
        "import random\nimport numpy as np\nnp.random.seed(2)\nfrom sklearn.svm import SVC\ndef f(x): return SVC().fit(x)", RUNS,
    ),
    "set up by a first-party call": (
        {"b.py": "import os\ndef setup(): os.environ['A']='1'", "a.py": "import b\nb.setup()\ndef f(x): return x"},
        {"b.py": "import os\ndef setup(): os.environ['A']='2'", "a.py": "import b\nb.setup()\ndef f(x): return x"}, RUNS,
    ),
    "seed in an imported file": (
        {"b.py": "import numpy as np\nnp.random.seed(1)\nN=1", "a.py": "from b import N\ndef f(x): return x.sample(N)"},
        {"b.py": "import numpy as np\nnp.random.seed(2)\nN=1", "a.py": "from b import N\ndef f(x): return x.sample(N)"}, RUNS,
    ),
    "logging set up": (
        "import logging\nlogging.basicConfig(level=1)\ndef f(x): return x",
        "import logging\nlogging.basicConfig(level=2)\ndef f(x): return x", SAME,
    ),
    "other dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass A: n: int\n@dataclass\nclass B: n: int\ndef f(x): return A(x)",
        "from dataclasses import dataclass\n@dataclass\nclass A: n: int\n@dataclass\nclass B: m: int\ndef f(x): return A(x)", SAME,
    ),
    "other function below the same library decorator": (
        "import functools\n@functools.lru_cache\ndef g(a): return a\n@functools.lru_cache\ndef h(a): return a\ndef f(x): return g(x)",
        "import functools\n@functools.lru_cache\ndef g(a): return a\n@functools.lru_cache\ndef h(a): return a+1\ndef f(x): return g(x)", SAME,
    ),
    "other function below the same own decorator": (
        "def d(g): return lambda x: g(x)\n@d\ndef h(a): return a\n@d\ndef f(x): return x",
        "def d(g): return lambda x: g(x)\n@d\ndef h(a): return a+1\n@d\ndef f(x): return x", SAME,
    ),
    "other function below an imported decorator": (
        {"b.py": "def d(g): return lambda x: g(x)", "a.py": "from b import d\n@d\ndef h(a): return a\n@d\ndef f(x): return x"},
        {"b.py": "def d(g): return lambda x: g(x)", "a.py": "from b import d\n@d\ndef h(a): return a+1\n@d\ndef f(x): return x"}, SAME,
    ),
    "other function below a decorator of an imported module": (
        {"b.py": "def d(g): return lambda x: g(x)\ndef k(): return 1", "a.py": "import b\n@b.d\ndef h(a): return a\ndef f(x): return b.k()"},
        {"b.py": "def d(g): return lambda x: g(x)\ndef k(): return 1", "a.py": "import b\n@b.d\ndef h(a): return a+1\ndef f(x): return b.k()"}, SAME,
    ),
    "registered with another library": (
        "from spacy import Language\nimport spacy\n@Language.component('a')\ndef h(d): return d\ndef f(x): return spacy.load('a')",
        "from spacy import Language\nimport spacy\n@Language.component('a')\ndef h(d): return d+1\ndef f(x): return spacy.load('a')", RUNS,
    ),
    "counting decorator": (
        "N=[0]\ndef d(g):\n N[0]+=1\n return g\n@d\ndef h(a): return a\ndef f(x): return N",
        "N=[0]\ndef d(g):\n N[0]+=1\n return g\n@d\ndef h(a): return a\n@d\ndef k(a): return a\ndef f(x): return N", RUNS,
    ),
    "names passed in a circle": (
        {"b.py": "from a import M\nfrom c import N", "c.py": "from b import M\nN=1", "a.py": "M=1\nfrom b import N\ndef f(x): return N"},
        {"b.py": "from a import M\nfrom c import N", "c.py": "from b import M\nN=2", "a.py": "M=1\nfrom b import N\ndef f(x): return N"}, RUNS,
    ),
    "package that imports its own module": (
        {"k/__init__.py": "from . import b\nfrom .b import N", "k/b.py": "N=1\nM=1", "a.py": "import k\ndef f(x): return k.b.M"},
        {"k/__init__.py": "from . import b\nfrom .b import N", "k/b.py": "N=1\nM=2", "a.py": "import k\ndef f(x): return k.b.M"}, RUNS,
    ),
    "package that imports its own module, other name": (
        {"k/__init__.py": "from . import b\nfrom .b import N", "k/b.py": "N=1\nM=1", "a.py": "import k\ndef f(x): return k.b.M"},
        {"k/__init__.py": "from . import b\nfrom .b import N", "k/b.py": "N=2\nM=1", "a.py": "import k\ndef f(x): return k.b.M"}, SAME,
    ),
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


def project(directory: Path, files: dict[str, str] | str) -> Path:
    for name, text in ({"a.py": files} if isinstance(files, str) else files).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


@pytest.mark.parametrize("case", CORPUS)
def test_an_edit_counts_if_it_can_change_the_result(tmp_path: Path, case: str) -> None:
    before, after, expected = CORPUS[case]
    old = fingerprint(project(tmp_path / "old", before), "a.py", "f")
    new = fingerprint(project(tmp_path / "new", after), "a.py", "f")
    assert (old.digest != new.digest) == (expected != SAME)
    if expected != SAME:
        assert changed_parts(old.parts, new.parts)


@pytest.mark.parametrize("case", CORPUS)
def test_a_fingerprint_is_the_same_wherever_the_project_lies(tmp_path: Path, case: str) -> None:
    here = fingerprint(project(tmp_path / "here", CORPUS[case][0]), "a.py", "f")
    there = fingerprint(project(tmp_path / "there", CORPUS[case][0]), "a.py", "f")
    assert here == there


def test_few_cases_run_needlessly() -> None:
    costs = [case for case, (_, _, expected) in CORPUS.items() if expected == COSTS]
    assert len(costs) / len(CORPUS) <= 0.05
