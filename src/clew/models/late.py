"""What few processes ask of this room, loaded when somebody does.

Knows names only.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand

if TYPE_CHECKING:
    from clew.models.filtering import filter_of
    from clew.models.reading import evaluation_in, reference_in, text_in, things_in

__all__ = ["evaluation_in", "filter_of", "reference_in", "text_in", "things_in"]

__getattr__ = on_demand(
    __name__,
    {
        "evaluation_in": "reading",
        "filter_of": "filtering",
        "reference_in": "reading",
        "text_in": "reading",
        "things_in": "reading",
    },
    package="clew.models",
)
