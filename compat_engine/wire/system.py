"""What concerns the whole engine, as the Engine API spells it (API 1.51)."""

from compat_engine.wire.base import Wire


class AuthConfig(Wire):
    """Body of POST /auth, and what X-Registry-Auth holds. Never kept, never logged."""

    username: str = ""
    password: str = ""
    auth: str = ""
    email: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""
