"""All route tables, in the order in which they are matched."""

from typing import Final

from compat_engine.api.route import Route
from compat_engine.api.routes import archives, containers, exec, images, networks, swarm, system, volumes

ROUTES: Final[list[Route]] = [
    *system.routes,
    *containers.routes,
    *archives.routes,
    *exec.routes,
    *images.routes,
    *networks.routes,
    *volumes.routes,
    *swarm.routes,
]
