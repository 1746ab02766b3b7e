"""Small programs with an edit each: imports, packages, registries and what runs on import; read by ``test_fingerprint_corpus``."""

# ruff: noqa: E501 - a program and its edit stand side by side

from __future__ import annotations

RUNS, SAME, COSTS = "runs", "same", "costs"

CASES: dict[str, tuple[dict[str, str] | str, dict[str, str] | str, str]] = {
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
}  # fmt: skip
