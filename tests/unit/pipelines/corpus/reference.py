"""Small programs with an edit each: what the language reference has besides; read by
``test_fingerprint_corpus``.
"""

# ruff: noqa: E501 - a program and its edit stand side by side

from __future__ import annotations

RUNS, SAME, COSTS = "runs", "same", "costs"

CASES: dict[str, tuple[dict[str, str] | str, dict[str, str] | str, str]] = {
    "class decorator that adds a method": (
        "def add(c):\n c.m = lambda self: 1\n return c\n@add\nclass C: pass\ndef f(x): return C().m()",
        "def add(c):\n c.m = lambda self: 2\n return c\n@add\nclass C: pass\ndef f(x): return C().m()", RUNS,
    ),
    "class decorator with arguments": (
        "def add(n):\n def d(c):\n  c.n = n\n  return c\n return d\n@add(1)\nclass C: pass\ndef f(x): return C.n",
        "def add(n):\n def d(c):\n  c.n = n\n  return c\n return d\n@add(2)\nclass C: pass\ndef f(x): return C.n", RUNS,
    ),
    "metaclass": (
        "class M(type):\n def __new__(m, *a): return super().__new__(m, *a)\n n = 1\nclass C(metaclass=M): pass\ndef f(x): return C.n",
        "class M(type):\n def __new__(m, *a): return super().__new__(m, *a)\n n = 2\nclass C(metaclass=M): pass\ndef f(x): return C.n", RUNS,
    ),
    "keyword of a metaclass": (
        "class M(type):\n def __new__(m, n, b, d, k=0): d['k'] = k; return super().__new__(m, n, b, d)\n def __init__(s, *a, **k): pass\nclass C(metaclass=M, k=1): pass\ndef f(x): return C.k",
        "class M(type):\n def __new__(m, n, b, d, k=0): d['k'] = k; return super().__new__(m, n, b, d)\n def __init__(s, *a, **k): pass\nclass C(metaclass=M, k=2): pass\ndef f(x): return C.k", RUNS,
    ),
    "metaclass of a base in another file": (
        {"b.py": "class M(type):\n n = 1\nclass B(metaclass=M): pass", "a.py": "from b import B\nclass C(B): pass\ndef f(x): return type(C).n"},
        {"b.py": "class M(type):\n n = 2\nclass B(metaclass=M): pass", "a.py": "from b import B\nclass C(B): pass\ndef f(x): return type(C).n"}, RUNS,
    ),
    "__init_subclass__ body": (
        "class B:\n def __init_subclass__(cls, **k): cls.n = 1\nclass C(B): pass\ndef f(x): return C.n",
        "class B:\n def __init_subclass__(cls, **k): cls.n = 2\nclass C(B): pass\ndef f(x): return C.n", RUNS,
    ),
    "__init_subclass__ argument": (
        "class B:\n def __init_subclass__(cls, n=0): cls.n = n\nclass C(B, n=1): pass\ndef f(x): return C.n",
        "class B:\n def __init_subclass__(cls, n=0): cls.n = n\nclass C(B, n=2): pass\ndef f(x): return C.n", RUNS,
    ),
    "descriptor": (
        "class D:\n def __get__(self, o, t=None): return 1\nclass C: v = D()\ndef f(x): return C().v",
        "class D:\n def __get__(self, o, t=None): return 2\nclass C: v = D()\ndef f(x): return C().v", RUNS,
    ),
    "descriptor named by its class": (
        "class D:\n def __set_name__(self, o, n): self.n = n\n def __get__(self, o, t=None): return self.n\nclass C: v = D()\ndef f(x): return C().v",
        "class D:\n def __set_name__(self, o, n): self.n = n * 2\n def __get__(self, o, t=None): return self.n\nclass C: v = D()\ndef f(x): return C().v", RUNS,
    ),
    "argument of a descriptor": (
        "class D:\n def __init__(self, n): self.n = n\n def __get__(self, o, t=None): return self.n\nclass C: v = D(1)\ndef f(x): return C().v",
        "class D:\n def __init__(self, n): self.n = n\n def __get__(self, o, t=None): return self.n\nclass C: v = D(2)\ndef f(x): return C().v", RUNS,
    ),
    "__class_getitem__": (
        "class C:\n def __class_getitem__(cls, n): return n\ndef f(x): return C[1]",
        "class C:\n def __class_getitem__(cls, n): return n + 1\ndef f(x): return C[1]", RUNS,
    ),
    "__getattr__ of a class": (
        "class C:\n def __getattr__(self, n): return 1\ndef f(x): return C().any",
        "class C:\n def __getattr__(self, n): return 2\ndef f(x): return C().any", RUNS,
    ),
    "class cell": (
        "class A:\n def m(self): return 1\nclass B(A):\n def m(self): return super().m()\ndef f(x): return B().m()",
        "class A:\n def m(self): return 2\nclass B(A):\n def m(self): return super().m()\ndef f(x): return B().m()", RUNS,
    ),
    "match on a constant": (
        "class K: LOW = 1\ndef f(x):\n match x:\n  case K.LOW: return 1\n return 0",
        "class K: LOW = 2\ndef f(x):\n match x:\n  case K.LOW: return 1\n return 0", RUNS,
    ),
    "match guard": (
        "N=1\ndef f(x):\n match x:\n  case y if y > N: return 1\n return 0",
        "N=2\ndef f(x):\n match x:\n  case y if y > N: return 1\n return 0", RUNS,
    ),
    "match sequence": (
        "def f(x):\n match x:\n  case [a, *rest]: return rest\n",
        "def f(x):\n match x:\n  case [*rest, a]: return rest\n", RUNS,
    ),
    "match mapping, renamed rest": (
        "def f(x):\n match x:\n  case {'a': 1, **rest}: return rest\n",
        "def f(x):\n match x:\n  case {'a': 1, **others}: return others\n", SAME,
    ),
    "match or-pattern": (
        "def f(x):\n match x:\n  case 1 | 2: return 1\n",
        "def f(x):\n match x:\n  case 1 | 3: return 1\n", RUNS,
    ),
    "match_args of a class": (
        "class P:\n __match_args__ = ('a', 'b')\n a, b = 1, 2\ndef f(x):\n match P():\n  case P(one): return one",
        "class P:\n __match_args__ = ('b', 'a')\n a, b = 1, 2\ndef f(x):\n match P():\n  case P(one): return one", RUNS,
    ),
    "walrus in a condition": (
        "def g(x): return x\ndef f(x):\n if (n := g(x)) > 1: return n",
        "def g(x): return x + 1\ndef f(x):\n if (n := g(x)) > 1: return n", RUNS,
    ),
    "walrus renamed": (
        "def f(x):\n if (n := x) > 1: return n",
        "def f(x):\n if (m := x) > 1: return m", SAME,
    ),
    "walrus at module level": (
        "print(N := 1)\ndef f(x): return N",
        "print(N := 2)\ndef f(x): return N", RUNS,
    ),
    "star import of a helper": (
        {"b.py": "def g(x): return 1", "a.py": "from b import *\ndef f(x): return g(x)"},
        {"b.py": "def g(x): return 2", "a.py": "from b import *\ndef f(x): return g(x)"}, RUNS,
    ),
    "star import hides a name of the file before it": (
        {"b.py": "", "a.py": "N = 1\nfrom b import *\ndef f(x): return N"},
        {"b.py": "N = 2", "a.py": "N = 1\nfrom b import *\ndef f(x): return N"}, RUNS,
    ),
    "__all__ takes a name away": (
        {"b.py": "N = 2", "c.py": "N = 1", "a.py": "from c import *\nfrom b import *\ndef f(x): return N"},
        {"b.py": "__all__ = []\nN = 2", "c.py": "N = 1", "a.py": "from c import *\nfrom b import *\ndef f(x): return N"}, RUNS,
    ),
    "__all__ gives a private name": (
        {"b.py": "__all__ = ['_n']\n_n = 1", "a.py": "from b import *\ndef f(x): return _n"},
        {"b.py": "__all__ = ['_n']\n_n = 2", "a.py": "from b import *\ndef f(x): return _n"}, RUNS,
    ),
    "relative import": (
        {"p/__init__.py": "", "p/b.py": "N = 1", "p/c.py": "from .b import N\ndef g(): return N", "a.py": "from p.c import g\ndef f(x): return g()"},
        {"p/__init__.py": "", "p/b.py": "N = 2", "p/c.py": "from .b import N\ndef g(): return N", "a.py": "from p.c import g\ndef f(x): return g()"}, RUNS,
    ),
    "relative import of a module": (
        {"p/__init__.py": "", "p/b.py": "N = 1", "p/c.py": "from . import b\ndef g(): return b.N", "a.py": "from p.c import g\ndef f(x): return g()"},
        {"p/__init__.py": "", "p/b.py": "N = 2", "p/c.py": "from . import b\ndef g(): return b.N", "a.py": "from p.c import g\ndef f(x): return g()"}, RUNS,
    ),
    "relative import from above": (
        {"p/__init__.py": "", "p/b.py": "N = 1", "p/q/__init__.py": "", "p/q/c.py": "from ..b import N\ndef g(): return N", "a.py": "from p.q.c import g\ndef f(x): return g()"},
        {"p/__init__.py": "", "p/b.py": "N = 2", "p/q/__init__.py": "", "p/q/c.py": "from ..b import N\ndef g(): return N", "a.py": "from p.q.c import g\ndef f(x): return g()"}, RUNS,
    ),
    "namespace package": (
        {"n/b.py": "N = 1", "a.py": "from n.b import N\ndef f(x): return N"},
        {"n/b.py": "N = 2", "a.py": "from n.b import N\ndef f(x): return N"}, RUNS,
    ),
    "module of a namespace package": (
        {"n/m/b.py": "N = 1", "a.py": "import n.m.b\ndef f(x): return n.m.b.N"},
        {"n/m/b.py": "N = 2", "a.py": "import n.m.b\ndef f(x): return n.m.b.N"}, RUNS,
    ),
    "name that a package passes on": (
        {"p/__init__.py": "from p.b import N", "p/b.py": "N = 1", "a.py": "import p\ndef f(x): return p.N"},
        {"p/__init__.py": "from p.b import N", "p/b.py": "N = 2", "a.py": "import p\ndef f(x): return p.N"}, RUNS,
    ),
    "partial": (
        "from functools import partial\ndef g(a, b): return b\nh = partial(g, 1)\ndef f(x): return h(x)",
        "from functools import partial\ndef g(a, b): return b\nh = partial(g, 2)\ndef f(x): return h(x)", RUNS,
    ),
    "function under a partial": (
        "import functools\ndef g(a, b): return b\nh = functools.partial(g, 1)\ndef f(x): return h(x)",
        "import functools\ndef g(a, b): return a\nh = functools.partial(g, 1)\ndef f(x): return h(x)", RUNS,
    ),
    "partialmethod": (
        "from functools import partialmethod\nclass C:\n def m(self, n): return n\n one = partialmethod(m, 1)\ndef f(x): return C().one()",
        "from functools import partialmethod\nclass C:\n def m(self, n): return n\n one = partialmethod(m, 2)\ndef f(x): return C().one()", RUNS,
    ),
    "singledispatch implementation": (
        "from functools import singledispatch\n@singledispatch\ndef g(x): return 0\n@g.register\ndef _(x: int): return 1\ndef f(x): return g(x)",
        "from functools import singledispatch\n@singledispatch\ndef g(x): return 0\n@g.register\ndef _(x: int): return 2\ndef f(x): return g(x)", RUNS,
    ),
    "singledispatch by another type": (
        "from functools import singledispatch\n@singledispatch\ndef g(x): return 0\n@g.register\ndef _(x: int): return 1\ndef f(x): return g(x)",
        "from functools import singledispatch\n@singledispatch\ndef g(x): return 0\n@g.register\ndef _(x: str): return 1\ndef f(x): return g(x)", RUNS,
    ),
    "singledispatch registered in another file": (
        {"b.py": "from functools import singledispatch\n@singledispatch\ndef g(x): return 0", "c.py": "from b import g\n@g.register(int)\ndef h(x): return 1", "a.py": "import c\nfrom b import g\ndef f(x): return g(x)"},
        {"b.py": "from functools import singledispatch\n@singledispatch\ndef g(x): return 0", "c.py": "from b import g\n@g.register(int)\ndef h(x): return 2", "a.py": "import c\nfrom b import g\ndef f(x): return g(x)"}, RUNS,
    ),
    "cached helper": (
        "from functools import cache\n@cache\ndef g(x): return 1\ndef f(x): return g(x)",
        "from functools import cache\n@cache\ndef g(x): return 2\ndef f(x): return g(x)", RUNS,
    ),
    "cached property": (
        "from functools import cached_property\nclass C:\n @cached_property\n def v(self): return 1\ndef f(x): return C().v",
        "from functools import cached_property\nclass C:\n @cached_property\n def v(self): return 2\ndef f(x): return C().v", RUNS,
    ),
    "reduce over a helper": (
        "from functools import reduce\ndef add(a, b): return a + b\ndef f(x): return reduce(add, x)",
        "from functools import reduce\ndef add(a, b): return a - b\ndef f(x): return reduce(add, x)", RUNS,
    ),
    "total_ordering": (
        "from functools import total_ordering\n@total_ordering\nclass C:\n def __lt__(self, o): return True\ndef f(x): return C() < C()",
        "from functools import total_ordering\n@total_ordering\nclass C:\n def __lt__(self, o): return False\ndef f(x): return C() < C()", RUNS,
    ),
    "default of a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass C:\n n: int = 1\ndef f(x): return C().n",
        "from dataclasses import dataclass\n@dataclass\nclass C:\n n: int = 2\ndef f(x): return C().n", RUNS,
    ),
    "default of a dataclass by a constant": (
        "from dataclasses import dataclass\nN = 1\n@dataclass\nclass C:\n n: int = N\ndef f(x): return C().n",
        "from dataclasses import dataclass\nN = 2\n@dataclass\nclass C:\n n: int = N\ndef f(x): return C().n", RUNS,
    ),
    "order of dataclass fields": (
        "from dataclasses import dataclass\n@dataclass\nclass C:\n a: int\n b: int\ndef f(x): return C(1, 2).a",
        "from dataclasses import dataclass\n@dataclass\nclass C:\n b: int\n a: int\ndef f(x): return C(1, 2).a", RUNS,
    ),
    "frozen dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass C:\n a: int\ndef f(x): return hash(C(1))",
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass C:\n a: int\ndef f(x): return hash(C(1))", RUNS,
    ),
    "__post_init__": (
        "from dataclasses import dataclass\n@dataclass\nclass C:\n a: int\n def __post_init__(self): self.a += 1\ndef f(x): return C(1).a",
        "from dataclasses import dataclass\n@dataclass\nclass C:\n a: int\n def __post_init__(self): self.a += 2\ndef f(x): return C(1).a", RUNS,
    ),
    "value of an enum": (
        "from enum import Enum\nclass E(Enum):\n A = 1\ndef f(x): return E.A.value",
        "from enum import Enum\nclass E(Enum):\n A = 2\ndef f(x): return E.A.value", RUNS,
    ),
    "auto of an enum by its place": (
        "from enum import Enum, auto\nclass E(Enum):\n A = auto()\n B = auto()\ndef f(x): return E.B.value",
        "from enum import Enum, auto\nclass E(Enum):\n B = auto()\n A = auto()\ndef f(x): return E.B.value", RUNS,
    ),
    "enum imported from another file": (
        {"b.py": "from enum import Enum\nclass E(Enum):\n A = 1", "a.py": "from b import E\ndef f(x): return E.A.value"},
        {"b.py": "from enum import Enum\nclass E(Enum):\n A = 2", "a.py": "from b import E\ndef f(x): return E.A.value"}, RUNS,
    ),
    "module __getattr__": (
        {"b.py": "def __getattr__(n): return 1", "a.py": "import b\ndef f(x): return b.any"},
        {"b.py": "def __getattr__(n): return 2", "a.py": "import b\ndef f(x): return b.any"}, RUNS,
    ),
    "module __getattr__ by from-import": (
        {"b.py": "N = 1\ndef __getattr__(n): return N", "a.py": "from b import any_name\ndef f(x): return any_name"},
        {"b.py": "N = 2\ndef __getattr__(n): return N", "a.py": "from b import any_name\ndef f(x): return any_name"}, RUNS,
    ),
    "conditional import, other branch": (
        {"b.py": "N = 1", "c.py": "N = 5", "a.py": "import sys\nif sys.version_info > (3,):\n from b import N\nelse:\n from c import N\ndef f(x): return N"},
        {"b.py": "N = 1", "c.py": "N = 6", "a.py": "import sys\nif sys.version_info > (3,):\n from b import N\nelse:\n from c import N\ndef f(x): return N"}, COSTS,
    ),
    "conditional import, the condition": (
        {"b.py": "N = 1", "c.py": "N = 5", "a.py": "FAST = True\nif FAST:\n from b import N\nelse:\n from c import N\ndef f(x): return N"},
        {"b.py": "N = 1", "c.py": "N = 5", "a.py": "FAST = False\nif FAST:\n from b import N\nelse:\n from c import N\ndef f(x): return N"}, RUNS,
    ),
    "conditional definition, the condition": (
        "FAST = True\nif FAST:\n def g(): return 1\nelse:\n def g(): return 2\ndef f(x): return g()",
        "FAST = False\nif FAST:\n def g(): return 1\nelse:\n def g(): return 2\ndef f(x): return g()", RUNS,
    ),
    "import that may fail": (
        {"b.py": "N = 1", "a.py": "try:\n from b import N\nexcept ImportError:\n N = 0\ndef f(x): return N"},
        {"b.py": "N = 2", "a.py": "try:\n from b import N\nexcept ImportError:\n N = 0\ndef f(x): return N"}, RUNS,
    ),
    "type-checking-only import": (
        {"b.py": "N = 1", "a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n from b import N\ndef f(x): return x"},
        {"b.py": "N = 2", "a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n from b import N\ndef f(x): return x"}, SAME,
    ),
    "type-checking-only import under typing": (
        {"b.py": "class T: pass", "a.py": "import typing\nif typing.TYPE_CHECKING:\n from b import T\ndef g(x: 'T') -> 'T': return x\ndef f(x): return g(x)"},
        {"b.py": "class T: n = 1", "a.py": "import typing\nif typing.TYPE_CHECKING:\n from b import T\ndef g(x: 'T') -> 'T': return x\ndef f(x): return g(x)"}, SAME,
    ),
    "else of type checking": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING: N = 0\nelse: N = 1\ndef f(x): return N",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING: N = 0\nelse: N = 2\ndef f(x): return N", RUNS,
    ),
    "generator step": (
        "def f(x):\n for i in x: yield i",
        "def f(x):\n for i in x: yield i + 1", RUNS,
    ),
    "generator expression of a helper": (
        "def g(i): return i\ndef f(x): return sum(g(i) for i in x)",
        "def g(i): return -i\ndef f(x): return sum(g(i) for i in x)", RUNS,
    ),
    "send into a generator": (
        "def g():\n n = yield 1\n yield n\ndef f(x):\n i = g(); next(i); return i.send(2)",
        "def g():\n n = yield 1\n yield n * 2\ndef f(x):\n i = g(); next(i); return i.send(2)", RUNS,
    ),
    "async helper": (
        "import asyncio\nasync def g(x): return 1\ndef f(x): return asyncio.run(g(x))",
        "import asyncio\nasync def g(x): return 2\ndef f(x): return asyncio.run(g(x))", RUNS,
    ),
    "async for": (
        "import asyncio\nasync def g():\n yield 1\nasync def h(): return [i async for i in g()]\ndef f(x): return asyncio.run(h())",
        "import asyncio\nasync def g():\n yield 2\nasync def h(): return [i async for i in g()]\ndef f(x): return asyncio.run(h())", RUNS,
    ),
    "async with": (
        "import asyncio\nclass C:\n async def __aenter__(self): return 1\n async def __aexit__(self, *a): pass\nasync def h():\n async with C() as c: return c\ndef f(x): return asyncio.run(h())",
        "import asyncio\nclass C:\n async def __aenter__(self): return 2\n async def __aexit__(self, *a): pass\nasync def h():\n async with C() as c: return c\ndef f(x): return asyncio.run(h())", RUNS,
    ),
    "default of a lambda": (
        "g = lambda a=1: a\ndef f(x): return g()",
        "g = lambda a=2: a\ndef f(x): return g()", RUNS,
    ),
    "default of a lambda by a constant": (
        "N = 1\ng = lambda a=N: a\ndef f(x): return g()",
        "N = 2\ng = lambda a=N: a\ndef f(x): return g()", RUNS,
    ),
    "closure from a factory": (
        "def make(n):\n def g(x): return x + n\n return g\ng = make(1)\ndef f(x): return g(x)",
        "def make(n):\n def g(x): return x + n\n return g\ng = make(2)\ndef f(x): return g(x)", RUNS,
    ),
    "body of a closure from a factory": (
        "def make(n):\n def g(x): return x + n\n return g\ng = make(1)\ndef f(x): return g(x)",
        "def make(n):\n def g(x): return x * n\n return g\ng = make(1)\ndef f(x): return g(x)", RUNS,
    ),
    "factory in another file": (
        {"b.py": "def make(n):\n return lambda x: x + n", "a.py": "from b import make\ng = make(1)\ndef f(x): return g(x)"},
        {"b.py": "def make(n):\n return lambda x: x - n", "a.py": "from b import make\ng = make(1)\ndef f(x): return g(x)"}, RUNS,
    ),
    "closures of a loop": (
        "G = {}\nfor n in (1, 2):\n G[n] = lambda x, n=n: x + n\ndef f(x): return G[1](x)",
        "G = {}\nfor n in (1, 3):\n G[n] = lambda x, n=n: x + n\ndef f(x): return G[1](x)", RUNS,
    ),
    "step below a decorator factory": (
        "def scaled(n):\n def d(g):\n  def h(x): return g(x) * n\n  return h\n return d\n@scaled(1)\ndef f(x): return x",
        "def scaled(n):\n def d(g):\n  def h(x): return g(x) * n\n  return h\n return d\n@scaled(2)\ndef f(x): return x", RUNS,
    ),
    "context manager by generator": (
        "from contextlib import contextmanager\n@contextmanager\ndef g():\n yield 1\ndef f(x):\n with g() as n: return n",
        "from contextlib import contextmanager\n@contextmanager\ndef g():\n yield 2\ndef f(x):\n with g() as n: return n", RUNS,
    ),
    "operator overloaded": (
        "class N:\n def __add__(self, o): return 1\ndef f(x): return N() + x",
        "class N:\n def __add__(self, o): return 2\ndef f(x): return N() + x", RUNS,
    ),
    "call overloaded": (
        "class G:\n def __call__(self, x): return 1\ng = G()\ndef f(x): return g(x)",
        "class G:\n def __call__(self, x): return 2\ng = G()\ndef f(x): return g(x)", RUNS,
    ),
    "method looked up by text": (
        "class G:\n def one(self): return 1\ndef f(x): return getattr(G(), 'one')()",
        "class G:\n def one(self): return 2\ndef f(x): return getattr(G(), 'one')()", RUNS,
    ),
    "table of functions": (
        "def a(x): return 1\ndef b(x): return 2\nT = {'a': a, 'b': b}\ndef f(x): return T[x]()",
        "def a(x): return 1\ndef b(x): return 3\nT = {'a': a, 'b': b}\ndef f(x): return T[x]()", RUNS,
    ),
    "constant spread over two": (
        "A, B = 1, 2\ndef f(x): return A",
        "A, B = 3, 2\ndef f(x): return A", RUNS,
    ),
    "constant by a comprehension": (
        "N = [i * 2 for i in range(3)]\ndef f(x): return N",
        "N = [i * 3 for i in range(3)]\ndef f(x): return N", RUNS,
    ),
    "constant by a loop": (
        "N = []\nfor i in range(3): N.append(i)\ndef f(x): return N",
        "N = []\nfor i in range(4): N.append(i)\ndef f(x): return N", RUNS,
    ),
    "constant by a with": (
        "import contextlib\nwith contextlib.nullcontext(1) as N: pass\ndef f(x): return N",
        "import contextlib\nwith contextlib.nullcontext(2) as N: pass\ndef f(x): return N", RUNS,
    ),
    "augmented constant": (
        "N = 1\nN += 1\ndef f(x): return N",
        "N = 1\nN += 2\ndef f(x): return N", RUNS,
    ),
    "nested constant": (
        "T = {'a': {'b': 1}}\ndef f(x): return T['a']['b']",
        "T = {'a': {'b': 2}}\ndef f(x): return T['a']['b']", RUNS,
    ),
    "constant updated through an alias": (
        "T = {}\nU = T\nU['a'] = 1\ndef f(x): return T",
        "T = {}\nU = T\nU['a'] = 2\ndef f(x): return T", RUNS,
    ),
    "list extended by a helper of another file": (
        {"b.py": "def fill(t): t.append(1)", "a.py": "from b import fill\nT = []\nfill(T)\ndef f(x): return T"},
        {"b.py": "def fill(t): t.append(2)", "a.py": "from b import fill\nT = []\nfill(T)\ndef f(x): return T"}, RUNS,
    ),
    "later star import wins": (
        {"b.py": "N = 1", "c.py": "N = 2", "a.py": "from b import *\nfrom c import *\ndef f(x): return N"},
        {"b.py": "N = 1", "c.py": "N = 3", "a.py": "from b import *\nfrom c import *\ndef f(x): return N"}, RUNS,
    ),
    "star import moved above a binding": (
        {"b.py": "N = 2", "a.py": "N = 1\nfrom b import *\ndef f(x): return N"},
        {"b.py": "N = 2", "a.py": "from b import *\nN = 1\ndef f(x): return N"}, RUNS,
    ),
    "star import hides a helper": (
        {"b.py": "", "a.py": "def g(): return 1\nfrom b import *\ndef f(x): return g()"},
        {"b.py": "def g(): return 2", "a.py": "def g(): return 1\nfrom b import *\ndef f(x): return g()"}, RUNS,
    ),
    "star import hides an imported name": (
        {"b.py": "", "c.py": "N = 1", "a.py": "from c import N\nfrom b import *\ndef f(x): return N"},
        {"b.py": "N = 2", "c.py": "N = 1", "a.py": "from c import N\nfrom b import *\ndef f(x): return N"}, RUNS,
    ),
    "constant altered through a local alias": (
        "T = []\ndef g():\n u = T\n u.append(1)\ng()\ndef f(x): return T",
        "T = []\ndef g():\n u = T\n u.append(2)\ng()\ndef f(x): return T", RUNS,
    ),
    "constant altered as an element": (
        "T = []\nL = [T]\nL[0].append(1)\ndef f(x): return T",
        "T = []\nL = [T]\nL[0].append(2)\ndef f(x): return T", RUNS,
    ),
    "constant altered in a loop over its owners": (
        "T = []\nfor u in (T,): u.append(1)\ndef f(x): return T",
        "T = []\nfor u in (T,): u.append(2)\ndef f(x): return T", RUNS,
    ),
    "constant altered by its own method": (
        "class C:\n def __init__(self): self.n = 0\n def put(self, n): self.n = n\nT = C()\nT.put(1)\ndef f(x): return T.n",
        "class C:\n def __init__(self): self.n = 0\n def put(self, n): self.n = n\nT = C()\nT.put(2)\ndef f(x): return T.n", RUNS,
    ),
    "constant altered through a bound method": (
        "T = []\nput = T.append\nput(1)\ndef f(x): return T",
        "T = []\nput = T.append\nput(2)\ndef f(x): return T", RUNS,
    ),
    "setattr on an imported class": (
        {"b.py": "class C: n = 0", "a.py": "from b import C\nsetattr(C, 'n', 1)\ndef f(x): return C.n"},
        {"b.py": "class C: n = 0", "a.py": "from b import C\nsetattr(C, 'n', 2)\ndef f(x): return C.n"}, RUNS,
    ),
    "constant set by a function that a third file runs": (
        {"b.py": "N = 0\ndef put(n):\n global N\n N = n", "c.py": "from b import put\nput(1)", "a.py": "import b\nimport c\ndef f(x): return b.N"},
        {"b.py": "N = 0\ndef put(n):\n global N\n N = n", "c.py": "from b import put\nput(2)", "a.py": "import b\nimport c\ndef f(x): return b.N"}, RUNS,
    ),
    "lazily imported": (
        {"b.py": "N = 1", "a.py": "def f(x):\n from b import N\n return N"},
        {"b.py": "N = 2", "a.py": "def f(x):\n from b import N\n return N"}, RUNS,
    ),
    "lazily imported by a helper": (
        {"b.py": "N = 1", "a.py": "def g():\n import b\n return b.N\ndef f(x): return g()"},
        {"b.py": "N = 2", "a.py": "def g():\n import b\n return b.N\ndef f(x): return g()"}, RUNS,
    ),
    "not imported at all": (
        {"b.py": "N = 1", "a.py": "def f(x): return x"},
        {"b.py": "N = 2", "a.py": "def f(x): return x"}, SAME,
    ),
    "file of settings that code names": (
        {"rates.json": "[1]", "a.py": "import json\nRATES = json.load(open('rates.json'))\ndef f(x): return RATES"},
        {"rates.json": "[2]", "a.py": "import json\nRATES = json.load(open('rates.json'))\ndef f(x): return RATES"}, RUNS,
    ),
    "file of settings beside the code": (
        {"p/__init__.py": "", "p/rates.json": "[1]", "p/b.py": "from pathlib import Path\nTEXT = (Path(__file__).parent / 'rates.json').read_text()", "a.py": "from p.b import TEXT\ndef f(x): return TEXT"},
        {"p/__init__.py": "", "p/rates.json": "[2]", "p/b.py": "from pathlib import Path\nTEXT = (Path(__file__).parent / 'rates.json').read_text()", "a.py": "from p.b import TEXT\ndef f(x): return TEXT"}, RUNS,
    ),
    "file of settings read in the step": (
        {"conf/q.sql": "select 1", "a.py": "def f(x): return open('conf/q.sql').read()"},
        {"conf/q.sql": "select 2", "a.py": "def f(x): return open('conf/q.sql').read()"}, RUNS,
    ),
    "directory of settings": (
        {"conf/a.yaml": "1", "a.py": "from pathlib import Path\nALL = [p.read_text() for p in Path('conf').iterdir()]\ndef f(x): return ALL"},
        {"conf/a.yaml": "2", "a.py": "from pathlib import Path\nALL = [p.read_text() for p in Path('conf').iterdir()]\ndef f(x): return ALL"}, RUNS,
    ),
    "file of settings that nothing names": (
        {"notes.md": "1", "a.py": "def f(x): return x"},
        {"notes.md": "2", "a.py": "def f(x): return x"}, SAME,
    ),
    "file of settings of an unused helper": (
        {"rates.json": "[1]", "a.py": "def g(): return open('rates.json')\ndef f(x): return x"},
        {"rates.json": "[2]", "a.py": "def g(): return open('rates.json')\ndef f(x): return x"}, SAME,
    ),
    "file named in a docstring": (
        {"rates.json": "[1]", "a.py": "def f(x):\n 'rates.json'\n return x"},
        {"rates.json": "[2]", "a.py": "def f(x):\n 'rates.json'\n return x"}, SAME,
    ),
    "hints of a helper": (
        "def g(a: int) -> int: return a\ndef f(x): return g(x)",
        "def g(a: str) -> str: return a\ndef f(x): return g(x)", SAME,
    ),
    "module docstring": (
        "'''One.'''\ndef f(x): return x",
        "'''Two.'''\ndef f(x): return x", SAME,
    ),
    "docstring of a class": (
        "class C:\n 'One.'\n n = 1\ndef f(x): return C.n",
        "class C:\n 'Two.'\n n = 1\ndef f(x): return C.n", SAME,
    ),
    "order of helpers": (
        "def g(x): return 1\ndef h(x): return 2\ndef f(x): return g(x) + h(x)",
        "def h(x): return 2\ndef g(x): return 1\ndef f(x): return g(x) + h(x)", SAME,
    ),
    "main block": (
        "def f(x): return x\nif __name__ == '__main__': print(f(1))",
        "def f(x): return x\nif __name__ == '__main__': print(f(2))", SAME,
    ),
    "unused import": (
        "import json\ndef f(x): return x",
        "import json\nimport csv\ndef f(x): return x", SAME,
    ),
    "unused class": (
        "class C: n = 1\ndef f(x): return x",
        "class C: n = 2\ndef f(x): return x", SAME,
    ),
    "log message": (
        "import logging\nlog = logging.getLogger('one')\ndef f(x): return x",
        "import logging\nlog = logging.getLogger('two')\ndef f(x): return x", SAME,
    ),
}  # fmt: skip
