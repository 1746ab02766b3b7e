"""The pages: server-rendered, live by server-sent events, complete without JavaScript."""

from clew.server.web.routes import router
from clew.server.web.show import show_error, static_files, wants_page

__all__ = ["router", "show_error", "static_files", "wants_page"]
