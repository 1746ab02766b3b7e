"""S3 at the door: buckets are branches and commits, so that S3 clients work unmodified.

Knows the S3 protocol and the rooms that keep data; nothing of pages, of the API and of engines.
"""

from clew.server.s3.app import Gateway
from clew.server.s3.committing import Rooms

__all__ = ["Gateway", "Rooms"]
