"""The closed set of failures a use case may raise.

Each class is an outcome, not a place: `api/status.py` maps it to an HTTP status. The text is part of the Engine API (clients
match on it), so it is Docker's own wording. An OSError becomes one of these at the edge of the subsystem that met it.
"""


class EngineError(Exception):
    """Base of all of them; `str()` is the message a client reads."""


class InvalidParameter(EngineError):
    """What was asked for is malformed or impossible (400)."""


class Unauthorized(EngineError):
    """Credentials are missing or refused (401)."""


class Forbidden(EngineError):
    """Understood, and never allowed (403)."""


class NotFound(EngineError):
    """No such object (404)."""


class Conflict(EngineError):
    """The object's present state does not permit it (409)."""


class NotModified(EngineError):
    """The object is already as asked (304, sent without a body)."""


class NotImplementedHere(EngineError):
    """A part of Docker this engine does not have (501)."""


class Unavailable(EngineError):
    """A service this needs is not there now (503)."""


class Cancelled(EngineError):
    """The client went away before the work was done (499, seen by logs only)."""


class Internal(EngineError):
    """The engine or the host failed (500)."""
