"""The manifests of an image as `docker images --tree` shows them (API 1.47): here always one, for the platform it is for."""

from typing import Any

from compat_engine.engine.parts import Engine
from compat_engine.images.images import Image


def manifests(engine: Engine, image: Image) -> list[dict[str, Any]]:
    """Manifests of GET /images/json and, from 1.48 on, of GET /images/{name}/json. Sizes in bytes: Content as a registry keeps
    it, Unpacked as containers see it, Total the room both take."""
    manifest = engine.images.manifest(image)
    content = manifest.size + image.config_size + sum(blob.size for blob in image.blobs)
    system, architecture, variant = image.platform
    platform = {"architecture": architecture, "os": system, **({"variant": variant} if variant else {})}
    return [
        {
            "ID": manifest.digest,
            "Descriptor": manifest.plain(),
            "Available": True,
            "Size": {"Total": content + image.size, "Content": content},
            "Kind": "image",
            "ImageData": {
                "Platform": platform,
                "Containers": [item.id for item in engine.containers.all() if item.record.image == image.id],
                "Size": {"Unpacked": image.size},
            },
        }
    ]
