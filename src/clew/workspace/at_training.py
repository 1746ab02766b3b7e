"""What only a training asks for, loaded when there is one.

Knows names only.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand

if TYPE_CHECKING:
    from clew.workspace.trained import trained_of

__all__ = ["trained_of"]

__getattr__ = on_demand(__name__, {"trained_of": "trained"}, package="clew.workspace")
