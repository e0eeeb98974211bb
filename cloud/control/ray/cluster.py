"""The cluster of Ray that the settings name: joined only where it asks for a token and can reach what a round reads."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from culling.cloud.settings import CloudSettings
from culling.common.errors import MissingExtraError, SettingsError, StorageError

log = structlog.get_logger(__name__)

EXTRA = "executor.kind is ray, which is not installed: `pip install 'culling[ray]'`, or set executor.kind to local"
TOKEN = (
    "executor.kind is ray, but RAY_AUTH_MODE is not token: whoever reaches a cluster without one runs what he likes on "
    "it; set RAY_AUTH_MODE=token, and the token, for the service and on every node, and start the cluster again"
)
OPEN = (
    "executor.address: the cluster at {} asks for no token, so that whoever reaches it runs what he likes on it: "
    "start it again with RAY_AUTH_MODE=token on every node"
)
FAR = "the cluster has other nodes ({}), which cannot reach {}: set {}, or run the cluster on this machine alone"

GONE = "no cluster of Ray at {}: it does not answer"

ANSWER_S = 5.0
JOIN_S = 45.0
"""`ray.init` waits for a head that is gone without end (2.60), and does not say so."""

PROBE_S = 20.0
PROBE = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1])
except Exception as error:
    sys.exit(type(error).__name__ != "AuthenticationError")
sys.exit(3)
"""
"""Ends with 3 where the cluster lets somebody in who shows no token, with 0 where it does not."""


def require_ray() -> Any:
    """Return the package. Raises MissingExtraError without it, SettingsError where no token would be shown."""
    try:
        import ray
    except ImportError:
        raise MissingExtraError(EXTRA) from None
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        raise SettingsError(TOKEN)
    return ray


@contextmanager
def joined(settings: CloudSettings) -> Iterator[Any]:
    """Be part of the cluster until the block ends; give the package.

    Raises StorageError when it cannot be reached, SettingsError when it may not or cannot be used. Where Ray has not
    come back after `JOIN_S` seconds, it ends this process, with the exit code of StorageError.
    """
    ray = require_ray()
    address = settings.executor.address
    require_answer(address)
    late = threading.Timer(JOIN_S, _give_up, (address,))
    late.daemon = True
    late.start()
    try:
        ray.init(address=address, logging_level="ERROR", log_to_driver=True, configure_logging=False)
    except (ConnectionError, OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        told = f"no cluster of Ray at {address}: {told}; is it there, and is the token its own?"
        raise StorageError(f"executor.address: {told}") from error
    finally:
        late.cancel()
    try:
        require_token(ray.get_runtime_context().gcs_address)
        require_reach(settings, others(ray))
        yield ray
    finally:
        ray.shutdown()


def require_answer(address: str) -> None:
    """Raise StorageError where nobody listens at a head's `HOST:PORT`; of `auto` only RAY_ADDRESS is tried."""
    found = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, _, port = found.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()
    except OSError as error:
        raise StorageError(f"executor.address: {GONE.format(found)}") from error


def _give_up(address: str) -> None:
    log.error("ray_cluster_refused", error=f"executor.address: {GONE.format(address)} within {JOIN_S:g} s")
    os._exit(StorageError.exit_code)


def others(ray: Any) -> list[str]:
    """Return the addresses of the cluster's nodes that are not this machine."""
    here = ray.util.get_node_ip_address()
    return sorted({node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]} - {here})


def require_reach(settings: CloudSettings, nodes: list[str]) -> None:
    """Raise SettingsError where index or pictures lie on this machine, and the cluster has other nodes."""
    if not nodes:
        return
    told = ", ".join(nodes[:3]) + (", …" if len(nodes) > 3 else "")
    if str(settings.store_url).startswith("sqlite"):
        raise SettingsError(FAR.format(told, "the index in the data folder", "store.url to a PostgreSQL"))
    if settings.store.objects is None:
        raise SettingsError(FAR.format(told, "the pictures in the data folder", "store.objects to a bucket"))


def require_token(address: str) -> None:
    """Raise SettingsError where the cluster lets somebody in who shows no token."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    environment |= {"RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", PROBE, address]
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=PROBE_S)
    if ended.returncode == 3:
        raise SettingsError(OPEN.format(address))
    if ended.returncode:
        raise StorageError(f"executor.address: {GONE.format(address)}")
