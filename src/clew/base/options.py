"""Options in an address, ``?name=value``: numbers of them.

Knows no address; what is wrong is said by who reads one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


def number_of(
    options: Mapping[str, str], name: str, usual: float, wrong: Callable[[str], Exception]
) -> float:
    """A number, 0 or more; raises what ``wrong`` makes of a reason where it is none."""
    try:
        value = float(options.get(name, usual))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise wrong(f"{name}={options[name]} is no number")
    return value
