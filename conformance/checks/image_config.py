"""What a container takes over from its image."""

from __future__ import annotations

import re

from .. import image
from ..assertions import (
    equal,
)
from ..engine import Engine
from ..registry import check

CREATE = "POST /containers/create"


# what the image says


@check(CREATE)
def image_configuration_is_used(engine: Engine) -> None:
    name = f"{engine.name()}:1"
    config = {
        "Entrypoint": ["sh", "-c"],
        "Cmd": ["id -u; pwd; echo $GREETING"],
        "User": "worker",
        "WorkingDir": "/tmp",
        "Env": ["PATH=/bin", "GREETING=hi"],
    }
    engine.load(image.archive(name, [image.root_layer(engine.setup.busybox, name)], config))
    body = {"Image": name, "HostConfig": {"NetworkMode": "none"}}
    container = engine.post_create(body).json()["Id"]
    engine.start(container)
    engine.wait(container)
    equal(re.findall(rb"[\w/]+\n", engine.logs(container).body), [b"1000\n", b"/tmp\n", b"hi\n"], "output")


@check(CREATE)
def image_labels_and_volumes_are_taken_over(engine: Engine) -> None:
    name = f"{engine.name()}:1"
    config = {
        "Labels": {"a": "image", "b": "image"},
        "Volumes": {"/data": {}},
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGUSR1",
    }
    engine.load(image.archive(name, [image.root_layer(engine.setup.busybox, name)], config))
    seen = engine.inspect(engine.create(Image=name, Labels={"b": "own"}))
    equal(seen["Config"]["Labels"], {"a": "image", "b": "own"}, "Labels")
    equal(seen["Config"]["ExposedPorts"], {"80/tcp": {}}, "ExposedPorts")
    equal(seen["Config"]["StopSignal"], "SIGUSR1", "StopSignal")
    equal([mount["Destination"] for mount in seen["Mounts"]], ["/data"], "Mounts")
