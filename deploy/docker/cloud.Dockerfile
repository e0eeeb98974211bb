# syntax=docker/dockerfile:1
# The cloud service, all of it or one role of it, for amd64 and arm64.
#
#   docker build -f deploy/docker/cloud.Dockerfile -t culling-cloud .
#   docker run --read-only --tmpfs /tmp --init -p 5577:5577 -v culling:/var/lib/culling culling-cloud
#
# `--build-arg VARIANT=gpu` brings onnxruntime for CUDA (torch brings its own CUDA in either); it needs a driver, the NVIDIA
# Container Toolkit, and `--gpus all`. `--build-arg EXTRAS=postgres,s3,ray,otel` says what else is installed.
# A settings file is not needed: every key is a variable too, `CULLING_STORE__URL` for `url` of `[store]`.
#
# Never built and never run: no container engine was at hand. Tests (tests/deploy) check what can be checked without one:
# hadolint reads this file; what it copies and installs is there; its command starts as it stands, with a read-only root and
# these variables, and the command of its HEALTHCHECK answers. That every package has a wheel for arm64 was looked up for
# the large ones (torch, onnxruntime, av, pyzmq, obstore, psycopg).
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG VARIANT=cpu
ARG EXTRAS=postgres,s3
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY common common
COPY edge edge
COPY cloud cloud
RUN case "$VARIANT" in cpu) extra=cloud ;; gpu) extra=cloud-gpu ;; *) echo "VARIANT is cpu or gpu" >&2; exit 1 ;; esac \
    && python -m venv /opt/culling \
    && /opt/culling/bin/pip install --no-cache-dir ".[$extra,$EXTRAS]" -c constraints.txt

FROM python:${PYTHON}-slim-bookworm
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/culling --shell /usr/sbin/nologin culling \
    && install -d -o culling -g culling -m 0700 /var/lib/culling /var/lib/culling/keys /var/lib/culling-edge
# A volume takes its owner from the folder that it first covers: the last two are for those of the compose files.
COPY --from=build /opt/culling /opt/culling
# Page and metrics have no password of their own: whoever publishes these ports decides who reaches them. HOME is on the
# volume, since the root is read-only.
ENV CULLING_SERVICE__DATA_DIR=/var/lib/culling \
    CULLING_SERVICE__ENDPOINT=tcp://*:5577 \
    CULLING_METRICS__HOST=0.0.0.0 \
    CULLING_METRICS__PORT=9465 \
    CULLING_PAGE__HOST=0.0.0.0 \
    CULLING_PAGE__PORT=9466 \
    HOME=/var/lib/culling \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PATH=/opt/culling/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/culling
VOLUME /var/lib/culling
EXPOSE 5577 9465 9466
# Every frame's file is compared with the index before the service is ready.
HEALTHCHECK --interval=30s --timeout=10s --start-period=15m --retries=3 \
    CMD ["/opt/culling/bin/python", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ['CULLING_METRICS__PORT'] + '/readyz', timeout=8)"]
ENTRYPOINT ["/opt/culling/bin/culling"]
CMD ["cloud", "serve"]
