"""THE table: what a failure of the engine is in HTTP."""

from typing import Final

from aiohttp import web

from compat_engine import errors

_STATUS: Final[dict[type, int]] = {
    errors.InvalidParameter: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotModified: 304,
    errors.NotImplementedHere: 501,
    errors.Unavailable: 503,
    errors.Cancelled: 499,
    errors.Internal: 500,
    web.HTTPRequestEntityTooLarge: 413,
}


def status_of(error: BaseException) -> int:
    """By the nearest class in the method resolution order; 500 for what the table does not know."""
    return next((_STATUS[class_] for class_ in type(error).__mro__ if class_ in _STATUS), 500)
