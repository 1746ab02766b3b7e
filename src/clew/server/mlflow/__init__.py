"""MLflow inside: an unmodified MLflow client and MLflow's pages under this server's origin.

Knows what MLflow asks for and where Clew stands in its way; the rest is MLflow's own application.
"""

from clew.server.mlflow.door import Door
from clew.server.mlflow.grounds import Grounds

__all__ = ["Door", "Grounds"]
