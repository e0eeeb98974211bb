"""A real HAProxy with the settings that are shipped, and the addresses of given ingests in place of a resolver's."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from support.images import ROOT
from support.site import free_port

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
CONFIG = (ROOT / "deploy/haproxy/haproxy.cfg").read_text()


class Haproxy:
    """Passes what connects to `endpoint` on to `ingests`, each an address `HOST:PORT` and the port of its health."""

    def __init__(self, folder: Path, ingests: Sequence[tuple[str, int]]) -> None:
        self.endpoint = f"tcp://127.0.0.1:{(port := free_port())}"
        self._log, file = folder / "haproxy.log", folder / "haproxy.cfg"
        file.write_text(config(ingests, port, free_port()))
        with self._log.open("w") as log:
            self._process = subprocess.Popen([str(HAPROXY), "-db", "-f", file], stdout=log, stderr=log)

    def close(self) -> None:
        """End it; fails where it ended by itself."""
        ended = self._process.poll()
        self._process.terminate()
        self._process.wait(20)
        assert ended is None, self._log.read_text()


def config(ingests: Sequence[tuple[str, int]], link: int, web: int) -> str:
    """Return the settings as they are shipped, but for where it listens, on `link` and `web`, and its ingests."""
    [checked] = set(re.findall(r"check port \d+ (.*) init-addr none resolvers network", CONFIG))
    servers = "".join(
        f"    server ingest{at} {address} check port {health} {checked}\n"
        for at, (address, health) in enumerate(ingests)
    )
    text, found = re.subn(r" +default-server .*\n +server-template ingest .*\n", servers, CONFIG)
    assert found == 1
    return text.replace("bind :5577", f"bind 127.0.0.1:{link}").replace("bind :9466", f"bind 127.0.0.1:{web}")
