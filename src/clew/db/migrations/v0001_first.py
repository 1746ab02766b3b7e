"""All tables of the first release."""

from alembic.operations import Operations


def upgrade(op: Operations) -> None:
    """Filled by `make migration` before the release."""
