"""Real servers of git for tests: OpenSSH's sshd, and git http-backend behind TLS; both on loopback."""

from __future__ import annotations

import base64
import http.server
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from example_site import NOBODY, free_port, unprivileged
from programs import missing, required

SECRET = "hunter2-and-much-more"


def keygen(path: Path) -> str:
    """Make a key pair; return the public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path.with_name(path.name + ".pub").read_text().strip()


class SshServer:
    """sshd as an unprivileged user, who is also the one that logs in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.key = folder / "deploy key"  # a space, since paths have them
        self.authorized = folder / "authorized_keys"
        self.authorized.write_text(keygen(self.key) + "\n")
        self.host_key = keygen(folder / "host_key")
        self.user = "nobody" if os.geteuid() == 0 else os.environ.get("USER") or os.getlogin()

    @property
    def known_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {' '.join(self.host_key.split()[:2])}\n"

    def url(self, path: Path) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}{path}"

    @contextmanager
    def running(self) -> Iterator[None]:
        sshd = required("sshd", "openssh-server", "REQUIRE_SSHD")
        conf = self.folder / "sshd_config"
        # PAM: an sshd that may not read /etc/shadow takes every account for a locked one without it [tried, 9.2]
        conf.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host_key\nPidFile none\nUsePAM yes\n"
            f"StrictModes no\nAuthorizedKeysFile {self.authorized}\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\n"
        )
        words = [str(sshd), "-D", "-e", "-f", str(conf)]
        if os.geteuid() == 0:
            # nobody's shell is nologin, and sshd starts all through the shell: a password file of its own,
            # seen by nobody else and gone with the process
            passwd = self.folder / "passwd"
            passwd.write_text(
                f"root:x:0:0:root:/root:/bin/sh\nnobody:x:{NOBODY}:{NOBODY}:nobody:{self.folder}:/bin/sh\n"
            )
            drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words]
            mount = 'mount --bind "$0" /etc/passwd && exec "$@"'
            words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, str(passwd), *drop]
            probe = subprocess.run([*words[:6], 'mount --bind "$0" /etc/passwd', str(passwd)], capture_output=True)
            if probe.returncode != 0:
                missing(f"no mount namespace for sshd: {probe.stderr.decode()}", "REQUIRE_SSHD")
        log = (self.folder / "sshd.log").open("wb")
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        try:
            until(lambda: b"Server listening" in (self.folder / "sshd.log").read_bytes(), process)
            yield
        finally:
            process.terminate()
            process.wait(20)
            log.close()


def until(condition: object, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args} did not start")
        time.sleep(0.05)


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class HttpsServer:
    """git http-backend for every repository below `root`, for one user with one password."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root, self.port = folder, root, free_port()
        self.authority = folder / "ca.pem"
        self.asked: list[str] = []
        if not shutil.which("openssl"):
            missing("openssl is not here", "REQUIRE_HTTPS")
        key, request, certificate, names = (folder / n for n in ("key.pem", "request", "server.pem", "names"))
        names.write_text("subjectAltName=IP:127.0.0.1\n")
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", "/CN=test authority",
                "-keyout", folder / "ca.key", "-out", self.authority)  # fmt: skip
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", folder / "ca.key", "-days", 2,
                "-set_serial", 1, "-extfile", names, "-out", certificate)  # fmt: skip
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)

    def url(self, path: Path) -> str:
        return f"https://127.0.0.1:{self.port}/{path.relative_to(self.root)}"

    @contextmanager
    def running(self) -> Iterator[None]:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                sent = base64.b64decode(self.headers.get("Authorization", "Basic ").split(" ")[1]).decode()
                if sent != f"deploy:{SECRET}":
                    # a careless server: what it was sent is in what it says, and git shows that
                    self.answer(401, [("WWW-Authenticate", 'Basic realm="git"'), ("Content-Type", "text/plain")],
                                f"no entry for {sent}\n".encode())  # fmt: skip
                    return
                path, _, query = self.path.partition("?")
                done = subprocess.run(
                    ["git", "http-backend"], input=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
                    capture_output=True, cwd="/", **unprivileged(),
                    env={
                        "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(outer.root), "GIT_HTTP_EXPORT_ALL": "1",
                        "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                        "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_USER": "deploy",
                        "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                        "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "REMOTE_ADDR": "127.0.0.1",
                    },
                )  # fmt: skip
                head, _, body = done.stdout.partition(b"\r\n\r\n")
                fields = [tuple(line.split(": ", 1)) for line in head.decode().splitlines()]
                status = next((int(value.split(" ")[0]) for name, value in fields if name == "Status"), 200)
                self.answer(status, [field for field in fields if field[0] != "Status"], body)

            do_POST = do_GET  # noqa: N815 - the name is the library's

            def answer(self, status: int, fields: list[tuple[str, ...]], body: bytes) -> None:
                self.send_response(status)
                for name, value in fields:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.socket = self.context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join(20)
