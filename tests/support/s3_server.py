"""An S3 server as a program: `python -m support.s3_server FOLDER` prints its port.

The file `fault` of the folder makes it err: `503` in it answers every request so, and a number below 60 lets every
answer wait so many seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

SLOWEST_S = 60


class Faulty:
    """The server's application, behind the fault that the file names."""

    def __init__(self, fault: Path) -> None:
        self._fault = fault
        self._served = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        told = float(self._fault.read_text()) if self._fault.exists() else 0.0
        if told >= SLOWEST_S:
            start(f"{told:.0f} Slow Down", [("Content-Length", "0")])
            return [b""]
        time.sleep(told)
        answer: Iterable[bytes] = self._served(environ, start)
        return answer


class Silent(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, Faulty(Path(sys.argv[1]) / "fault"), threaded=True, request_handler=Silent)
    print(server.port, flush=True)
    server.serve_forever()
