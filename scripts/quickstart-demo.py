"""What quickstart shows where the docker CLI is missing: the same through docker-py. The image's archive comes on stdin."""

import os
import sys

import docker


def main(name: str) -> None:
    client = docker.DockerClient(base_url=os.environ["DOCKER_HOST"])
    image = client.images.load(sys.stdin.buffer.read())[0]
    print("loaded", image.tags[0])
    for container in client.containers.list(all=True, filters={"name": f"^{name}$"}):
        container.remove(force=True)
    print(client.containers.run(image, ["echo", "hello from a container"], remove=True).decode(), end="")
    client.containers.run(image, ["sleep", "86400"], name=name, detach=True)
    for container in client.containers.list():
        print(container.short_id, container.image.tags[0], container.status, container.name)
    client.close()


if __name__ == "__main__":
    main(sys.argv[1])
