"""The sandbox that a systemd unit asks for, made with the same mount namespaces, and a service manager's socket.

`systemd-run` needs a machine whose first process is systemd; the namespaces only need root. What is kept: the unit's
own command line, ProtectSystem=strict, ProtectHome, PrivateTmp, StateDirectory, UMask and NoNewPrivileges. What is not:
User and its groups. A home or temporary folder in which the interpreter or these sources lie stays visible.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
NEEDED = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2]]


class Manager:
    """What a service manager hears from the service that it started."""

    def __init__(self, name: str) -> None:
        self.address = f"@culling-{name}-{os.getpid()}"
        self._inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._inbox.bind(f"\0{self.address[1:]}")

    def hears(self, state: str, within_s: float = 60.0) -> None:
        """Return once `state` was told; fails when it is not in time."""
        self._inbox.settimeout(within_s)
        while self._inbox.recv(200).decode() != state:
            pass

    def close(self) -> None:
        self._inbox.close()


def unit(name: str) -> Mapping[str, str]:
    """Return the `[Service]` section of a unit that is shipped; of a template, for the instance in `name`."""
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit_text(name))
    return parser["Service"]


def unit_text(name: str) -> str:
    """Return a unit's file; `culling-cloud@page` is the template with its instance filled in."""
    template, at, instance = name.partition("@")
    return (UNITS / f"{template}{at}.service").read_text().replace("%i", instance)


def script(service: Mapping[str, str], state: Path, etc: Path, command: str) -> str:
    """Return the shell script that makes the sandbox of `service`, in a mount namespace of its own, and runs `command`.

    `state` is shown as the unit's StateDirectory, what is in `etc` below /etc.
    """
    assert service["ProtectSystem"] == "strict"
    assert service["ProtectHome"] == service["PrivateTmp"] == service["NoNewPrivileges"] == "yes"
    wrapper = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m culling.common.cli "$@"\n'
    folder = f"/var/lib/{service['StateDirectory']}"
    homes = [home for home in ("/home", "/root", "/run/user") if _hidden(home)]
    private = [tmp for tmp in ("/tmp", "/var/tmp") if _hidden(tmp)]
    return f"""set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /mnt && cp -a /etc /mnt/etc && cp -a {etc}/. /mnt/etc && mount --bind /mnt/etc /etc
mount -t tmpfs -o mode=755 none /var/lib
mkdir -m {service["StateDirectoryMode"]} {folder} && mount --bind {state} {folder}
mount -t tmpfs -o mode=755 none /opt && mkdir -p /opt/culling/bin
printf %s {shlex.quote(wrapper)} > /opt/culling/bin/culling && chmod 755 /opt/culling/bin/culling
{" ".join(f"mount -t tmpfs -o mode=000 none {home};" for home in homes if Path(home).exists())}
{" ".join(f"mount -t tmpfs -o mode=1777 none {tmp};" for tmp in private)}
awk '{{print $5}}' /proc/self/mountinfo | grep -vE '^/(proc|sys|dev)(/|$)' | sort -u | while read -r at; do
  case "$at" in {"|".join([folder, *private])}) ;; *) ! mountpoint -q "$at" || mount -o remount,bind,ro "$at" ;; esac
done
umask {service["UMask"]}
exec setpriv --no-new-privs {command}
"""


def start(
    name: str, state: Path, etc: Path, log: Path, environment: Mapping[str, str], command: str | None = None
) -> subprocess.Popen[bytes]:
    """Start the unit's own command, or another, in its sandbox."""
    service = unit(name)
    line = script(service, state, etc, (command or service["ExecStart"]).replace("%S", "/var/lib"))
    with log.open("a") as out:
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", line], stdout=out, stderr=out, cwd="/", env={**os.environ, **environment}
        )


def require_namespaces() -> None:
    """Skip the test where no mount namespace can be made."""
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount --make-rprivate / && mount -t tmpfs none /mnt && setpriv --version"],
        capture_output=True,
        check=False,
    )
    if tried.returncode:
        pytest.skip(f"no mount namespace can be made: it needs root ({tried.stderr.decode().strip()})")


def _hidden(folder: str) -> bool:
    return not any(needed.is_relative_to(folder) for needed in NEEDED)
