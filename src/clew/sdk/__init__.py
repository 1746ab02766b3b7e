"""The workspace on an object: ``clew.connect()`` gives every verb, here or over HTTP.

Knows where a workspace may be; what the verbs do is for the workspace and the client.
"""

from clew.sdk.connect import connect, connect_embedded

__all__ = ["connect", "connect_embedded"]
