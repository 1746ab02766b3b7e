"""The workspace of a server, with the same verbs as one on this machine."""

from clew.client.remote import RemoteWorkspace

__all__ = ["RemoteWorkspace"]
