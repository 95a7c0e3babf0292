"""A service in one small file: `serve.py restart|status FOLDER PORT`. It answers for the release it was started from.

Its health is what `health.txt` of that release says: well, ill (it answers 500) or dead (it ends at once).
Run by the release's own Python, through `current`, as a service is.
"""

import http.server
import os
import signal
import socket
import sys
import time
from pathlib import Path


def running(folder: Path) -> int:
    """The process id, 0 for none."""
    try:
        pid = int((folder / "served.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return 0
    return pid if b"serve.py" in words and str(folder).encode() in words and state not in "ZX" else 0


def stop(folder: Path) -> None:
    """End it and wait for that."""
    pid = running(folder)
    if not pid:
        return
    os.kill(pid, signal.SIGKILL)
    while True:  # until it is a zombie or gone: before that, its port may still be taken
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state in "ZX":
            return
        time.sleep(0.005)


def serve(folder: Path, port: int, ready: int) -> None:
    """Answer until killed."""
    names = dict(line.split("=", 1) for line in Path("../release.env").read_text().split())
    health = Path("health.txt").read_text().strip()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if health == "well" else 500)
            self.send_header("X-Release", names["BB_RELEASE"])
            self.end_headers()
            self.wfile.write(health.encode())

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    class Server(http.server.HTTPServer):
        address_family = socket.AF_INET

    if health == "dead":
        raise SystemExit(1)
    with Server(("127.0.0.1", port), Answer) as server:
        os.write(ready, b".")
        os.close(ready)
        server.serve_forever()


def main() -> None:
    """Do what the first word says."""
    word, folder, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if word == "status":
        pid = running(folder)
        print(pid)
        sys.exit(0 if pid else 1)
    stop(folder)
    if word == "stop":
        return
    release = Path(os.path.realpath(folder / "broken_brackets" / "current"))
    if os.environ.get("BB_RELEASE") != release.name:  # named by its program and its environment, as a service's are
        python = str(release / "venv" / "bin" / "python")
        os.execve(python, [python, *sys.argv], {**os.environ, "BB_RELEASE": release.name})
    os.chdir(release / "app")
    look, ready = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.close(look)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        (folder / "served.pid").write_text(str(os.getpid()))
        serve(folder, port, ready)
    os.close(ready)
    os.read(look, 1)  # it listens, or has ended


if __name__ == "__main__":
    main()
