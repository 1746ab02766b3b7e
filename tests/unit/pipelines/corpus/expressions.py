"""Small programs with an edit each: names, operators, texts and statements; read by ``test_fingerprint_corpus``."""

# ruff: noqa: E501 - a program and its edit stand side by side

from __future__ import annotations

RUNS, SAME, COSTS = "runs", "same", "costs"

CASES: dict[str, tuple[dict[str, str] | str, dict[str, str] | str, str]] = {
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
}  # fmt: skip
