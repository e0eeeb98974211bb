# syntax=docker/dockerfile:1
# The edge agent, for amd64 and arm64.
#
#   docker build -f deploy/docker/edge.Dockerfile -t culling-edge .
#   docker build -f deploy/docker/edge.Dockerfile -t culling-edge:gpu --build-arg VARIANT=gpu .
#   docker run --read-only --tmpfs /tmp --init -v ./kit:/var/lib/culling-edge culling-edge
#
# The kit that `culling cloud enroll` wrote is the volume; it has to belong to the user 10001. The variant `gpu` brings
# CUDA and cuDNN and needs a driver, the NVIDIA Container Toolkit, and `--gpus all`.
#
# Never built and never run: no container engine was at hand. Tests (tests/deploy) check what can be checked without one:
# hadolint reads this file; what it copies and installs is there; its command starts in the sandbox of the unit, whose root is
# read-only too; and the command of its HEALTHCHECK answers. That every package has a wheel for arm64 was looked up for
# the large ones (onnxruntime with and without CUDA, av, pyzmq, simplejpeg).
#
# Jetson: nothing was tried. The variant `cpu` should run there, since it needs nothing but arm64 and glibc 2.28. For the GPU,
# onnxruntime has to be one that is built for the JetPack on the device, on an L4T image as the base, in place of the package
# `onnxruntime-gpu`, whose wheel may not fit; versions and the TensorRT provider are open questions. `culling edge check` tells
# which provider runs.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG VARIANT=cpu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY common common
COPY edge edge
COPY cloud cloud
RUN case "$VARIANT" in cpu) extra=edge ;; gpu) extra=edge-gpu ;; *) echo "VARIANT is cpu or gpu" >&2; exit 1 ;; esac \
    && python -m venv /opt/culling \
    && /opt/culling/bin/pip install --no-cache-dir ".[$extra]" -c constraints.txt

FROM python:${PYTHON}-slim-bookworm
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/culling-edge --shell /usr/sbin/nologin culling \
    && install -d -o culling -g culling -m 0700 /var/lib/culling-edge
COPY --from=build /opt/culling /opt/culling
# The metrics have no password: whoever publishes the port decides who reads them. HOME is on the volume, since the root
# is read-only.
ENV CULLING_METRICS__HOST=0.0.0.0 \
    CULLING_METRICS__PORT=9464 \
    HOME=/var/lib/culling-edge \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    PATH=/opt/culling/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/culling-edge
VOLUME /var/lib/culling-edge
EXPOSE 9464
# A model is proven before the agent is ready; the first run on a GPU takes its time.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 \
    CMD ["/opt/culling/bin/python", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ['CULLING_METRICS__PORT'] + '/readyz', timeout=8)"]
ENTRYPOINT ["/opt/culling/bin/culling"]
CMD ["edge", "run", "--config", "/var/lib/culling-edge/edge.toml"]
