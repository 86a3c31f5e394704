# The engine in a container. It needs the privileges of a host's engine:
#   docker build -t compat-engine .
#   docker run -d --privileged --cgroupns host -v compat:/var/lib/compat-engine -v /run/compat-engine:/run/compat-engine compat-engine
FROM python:3.13-slim-trixie AS build
COPY requirements.lock /src/
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r /src/requirements.lock
COPY compat_engine /src/compat_engine
RUN cp -r /src/compat_engine "$(/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/"

FROM python:3.13-slim-trixie
RUN apt-get update && apt-get install -y --no-install-recommends libnftables1 procps tini && rm -rf /var/lib/apt/lists/*
COPY --from=build /venv /venv
VOLUME /var/lib/compat-engine
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s CMD ["/venv/bin/python", "-c", "import socket; socket.socket(socket.AF_UNIX).connect('/run/compat-engine/docker.sock')"]
# As process 1 of its container the daemon would have to reap what its shims leave behind.
ENTRYPOINT ["tini", "--", "/venv/bin/python", "-m", "compat_engine"]
CMD ["--host", "unix:///run/compat-engine/docker.sock"]
