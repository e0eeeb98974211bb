"""A real nginx in front of a page: the snippet that is shipped, in a server of its own with TLS."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from support.site import free_port
from support.waiting import wait_until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx")
DEPLOYED = Path(__file__).parents[2] / "deploy" / "nginx"
PORTS = {"culling.conf": 9466, "culling-oidc.conf": 9466, "culling-view.conf": 9467}
"""Where what the shipped snippets serve listens by default."""
HOST = "cloud.example"
USER, PASSWORD = "anna", "open"

AROUND = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        server_name {host};
        ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
        include {folder}/snippet.conf;
    }}
}}
"""


class Nginx:
    """Serves what listens on `port` of this machine below `path` of `url`, by a shipped snippet, until it is closed.

    `port_4180=N` has N stand for a further port of the snippet.
    """

    def __init__(
        self, folder: Path, port: int, snippet: str = "culling.conf", path: str = "/culling", **others: int
    ) -> None:
        assert NGINX is not None
        self.folder, self.port = folder, free_port()
        self.url = f"https://{HOST}:{self.port}{path}"
        make_certificate(folder)
        (folder / "culling.htpasswd").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        text = (DEPLOYED / snippet).read_text()
        ports = {str(PORTS[snippet]): port} | {name.removeprefix("port_"): other for name, other in others.items()}
        for theirs, ours in ports.items():
            assert f"127.0.0.1:{theirs}" in text
            text = text.replace(f"127.0.0.1:{theirs}", f"127.0.0.1:{ours}")
        (folder / "snippet.conf").write_text(text.replace("/etc/nginx/culling", f"{folder}/culling"))
        user = "user root;" if os.geteuid() == 0 else ""  # its workers must read the test's folder
        (folder / "nginx.conf").write_text(user + AROUND.format(folder=folder, port=self.port, host=HOST))
        self._process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")])
        wait_until(lambda: self._listens() or self._process.poll() is not None)
        assert self._process.poll() is None, (folder / "error.log").read_text()

    def _listens(self) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)


def make_certificate(folder: Path) -> None:
    """Write `cert.pem` and `key.pem`, of HOST, signed by nobody else."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=2)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, until)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
