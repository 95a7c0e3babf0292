"""What a failed git means, and what to do about it: host keys, keys, credentials, certificates."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shlex
from pathlib import Path

from bb_release.errors import HostKeyChanged, HostKeyUnknown, MirrorNotUpdated, ReleaseError
from bb_release.tools import process
from bb_release.tools.git_access import Access, secrets_of, ssh_host

_SCAN_SECONDS = 10
_KEY_LINE = re.compile(r"[!-~]+ [a-z0-9-]+ AAAA[A-Za-z0-9+/]+={0,2}")
_PREFERRED = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")  # the order in which ssh asks for them


def not_updated(url: str, access: Access, error: process.ProcessFailed) -> ReleaseError:
    """The error for a failed git, with its own words and the remedy that fits them. No secret is in it."""
    said = process.Mask(secrets_of(access))(error.output)
    message = f"the mirror was not updated: {error}"
    remedy = "Check the repository's url, the network, and the deploy key or credentials; then deploy again."
    if "IDENTIFICATION HAS CHANGED" in said:
        return _changed(url, access, said)
    if "Host key verification failed" in said:
        return _unknown(url, access, said)
    if "Permission denied (" in said:
        message = "the repository's host does not accept the key"
        key = shlex.quote(str(access.deploy_key))
        remedy = (
            f"Add its public half where the repository lists its deploy keys: ssh-keygen -y -f {key}"
            if access.deploy_key else "Set deploy_key to a key without a passphrase that the repository accepts."
        )  # fmt: skip
    elif "Authentication failed" in said or "could not read Username" in said or "askpass" in said:
        message = "the repository's host does not accept the credentials, or was given none"
        remedy = (
            f"Put the line https://USER:TOKEN@{ssh_host(url)[0]} with a token that may read the repository into "
            + (str(access.credentials) if access.credentials else "a file of mode 0600, and set git_credentials")
        )
    elif "certificate" in said:
        message = "the certificate of the repository's host is not trusted"
        remedy = (
            "Add its authority to this host's (on Debian: to /usr/local/share/ca-certificates, then "
            "update-ca-certificates), or name a file of authorities in the variable SSL_CERT_FILE."
        )
    return MirrorNotUpdated(message, remedy=remedy, details=said)


def _unknown(url: str, access: Access, said: str) -> HostKeyUnknown:
    """Ask the host for its keys, and say how to add the very one whose fingerprint is shown."""
    host, port = _reached(url)
    name = host if port == 22 else f"[{host}]:{port}"
    known = str(access.known_hosts) if access.known_hosts else "~/.ssh/known_hosts"
    into = f">> {shlex.quote(known) if access.known_hosts else known}"
    if access.known_hosts and not _is_writable(access.known_hosts):
        into = f"| sudo tee -a {shlex.quote(known)}"
    lines = _scan(host, port)
    if not lines:
        scan = f"ssh-keyscan -p {port} {shlex.quote(host)}"
        return HostKeyUnknown(
            f"the host key of {name} is not known", details=said,
            remedy=f"See its fingerprint with `{scan} | ssh-keygen -lf -`, compare it with the one that the "
            f"host's owner publishes, and only when they are the same: `{scan} {into}`.",
        )  # fmt: skip
    prints = [f"{fingerprint(line)} ({line.split()[1]})" for line in lines]
    return HostKeyUnknown(
        f"the host key of {name} is not known; its fingerprint is {prints[0]}",
        details="\n".join([said, *prints]),
        remedy="Compare the fingerprint with the one that the host's owner publishes. Only when they are the same: "
        f"echo {shlex.quote(lines[0])} {into}",
    )


def _changed(url: str, access: Access, said: str) -> HostKeyChanged:
    """What ssh shouts about, with the file and the fingerprint that it names."""
    host, port = _reached(url)
    name = host if port == 22 else f"[{host}]:{port}"
    sent = re.search(r"SHA256:\S+?(?=\.?\s|\.?\Z)", said)
    file = re.search(r"(?m)^Offending .* key in (.+):\d+", said)
    path = file[1] if file else str(access.known_hosts or "~/.ssh/known_hosts")
    return HostKeyChanged(
        f"the host key of {name} is not the one that is known; now it is {sent[0] if sent else 'another'}",
        details=said,
        remedy="Somebody may stand between: ask the host's owner whether the key was replaced, and by which. Only "
        f"when it is that one: ssh-keygen -R {shlex.quote(name)} -f {shlex.quote(path)}, then deploy again.",
    )


def _reached(url: str) -> tuple[str, int]:
    """The host and port that ssh itself would go to: a name may stand for another in ~/.ssh/config."""
    host, port = ssh_host(url)
    words = ["ssh", "-G", *(["-p", str(port)] if port else []), "--", host]
    try:
        said = process.run(words, timeout_seconds=_SCAN_SECONDS, capture=True).output
    except process.ProcessFailed:
        said = ""
    return read_reached(said, host, port)


def read_reached(said: str, host: str, port: int | None) -> tuple[str, int]:
    """Host and port in what `ssh -G` says of itself."""
    facts = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    told = facts.get("port", "")
    known = int(told) if re.fullmatch(r"[0-9]{1,5}", told) else 0
    return facts.get("hostname", host), known if 0 < known < 65536 else port or 22


def _scan(host: str, port: int) -> list[str]:
    """The host's keys as lines for known_hosts, best first; none when it cannot be asked directly (a jump host)."""
    words = ["ssh-keyscan", "-T", str(_SCAN_SECONDS), "-p", str(port), "--", host]
    try:
        said = process.run(words, timeout_seconds=2 * _SCAN_SECONDS, capture=True, check=False).output
    except process.ProcessFailed:
        return []
    return read_keys(said)


def read_keys(said: str) -> list[str]:
    """The lines of known_hosts in what ssh-keyscan printed, the one that ssh would ask for first."""
    lines = [line for line in said.split("\n") if _KEY_LINE.fullmatch(line) and len(line.split()[2]) % 4 == 0]
    rank = {kind: number for number, kind in enumerate(_PREFERRED)}
    return sorted(lines, key=lambda line: rank.get(line.split()[1], len(rank)))


def fingerprint(line: str) -> str:
    """As `ssh-keygen -l` prints it: the hash of the key's blob, in base64 without padding."""
    digest = hashlib.sha256(base64.b64decode(line.split()[2])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _is_writable(path: Path) -> bool:
    return os.access(path if path.exists() else path.parent, os.W_OK)
