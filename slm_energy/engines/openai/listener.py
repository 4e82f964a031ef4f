"""Which processes listen on a port of this machine.

A running server is measured only if it is known which processes it consists of: their processor
time and their work on a GPU are then the trial's, not another program's.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import pwd
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from slm_energy.engines.openai import process_table
from slm_energy.engines.openai.process_table import PROC
from slm_energy.errors import EngineError

FORWARDERS = frozenset(
    {
        *("ssh", "sshd", "sshd-session", "autossh", "stunnel", "stunnel4", "kubectl", "oc"),
        *("docker-proxy", "rootlessport", "slirp4netns", "pasta", "pasta.avx2", "gvproxy"),
        *("socat", "nc", "ncat", "rinetd", "redir", "systemd-socket-", "chisel", "frpc", "frps"),
        *("nginx", "haproxy", "envoy", "traefik", "caddy", "cloudflared", "tailscaled", "ngrok"),
    }
)
"""Programs that pass connections on to other processes; the kernel cuts names to 15 characters."""

_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_LISTENS = "0A"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """A listening TCP socket: its address, its inode as processes show it, its user's id."""

    address: _IpAddress
    inode: str
    user: int


def server_processes(address: str, port: int, proc: Path = PROC) -> list[int]:
    """Find the server behind a port of this machine.

    Several processes may hold the socket: of a parent and its children the parent is returned.
    Ancestors of this process are not, such as a systemd that opened the socket for a service.

    Args:
        address: a numerical address of this machine.
        port: the port.
        proc: the kernel's folder about processes.

    Returns:
        Process ids: the roots of the server's process trees.

    Raises:
        EngineError: no process listens, none can be seen, or it passes connections on.
    """
    where = f"engine.options.url: port {port}"
    reached = _reached(list(_listeners(port, proc)), _unmapped(ipaddress.ip_address(address)))
    if not reached:
        raise EngineError(
            f"{where} is passed on, as no process listens there, and only this machine is measured;"
            " for a container: docker run --network=host, so that its server listens here"
        )
    table = process_table.read(proc)
    holders = _holders({listener.inode for listener in reached}, table, proc)
    own = {os.getpid(), *process_table.ancestors(os.getpid(), table)}
    if holders and holders <= own:
        raise EngineError(
            f"{where} belongs to the program that runs this sweep: start the server as a process of"
            " its own, or let the sweep start it (engine.options.command)"
        )
    holders -= own
    roots = sorted(
        pid for pid in holders if holders.isdisjoint(process_table.ancestors(pid, table))
    )
    if not roots:
        owner, me = _user(reached[0].user), _user(os.getuid())
        raise EngineError(
            f"{where} belongs to a process of user {owner} that cannot be seen by user {me}, so its"
            " energy would count as another program's: run the sweep as that user (in a container"
            " with --pid=host), or let it start the server (engine.options.command)"
        )
    for pid in roots:
        if table[pid].name in FORWARDERS:
            raise EngineError(
                f"{where} is passed on by {table[pid].name} (process {pid}), and only this machine"
                " is measured: give the port on which the server itself listens here"
            )
    return roots


def _listeners(port: int, proc: Path) -> Iterator[Listener]:
    """All sockets that listen on a port (Linux, Documentation/networking/proc_net_tcp.rst)."""
    for file in (proc / "net" / "tcp", proc / "net" / "tcp6"):
        lines = file.read_text(encoding="ascii").splitlines() if file.exists() else []
        for fields in map(str.split, lines[1:]):
            words, _, number = fields[1].partition(":")
            if fields[3] == _LISTENS and int(number, 16) == port:
                yield Listener(
                    address=_address(words), inode=f"socket:[{fields[9]}]", user=int(fields[7])
                )


def _address(words: str) -> _IpAddress:
    """From the kernel's notation: 32 bits at a time, in the machine's own order of bytes."""
    numbers = [int(words[at : at + 8], 16) for at in range(0, len(words), 8)]
    return _unmapped(ipaddress.ip_address(struct.pack(f"={len(numbers)}I", *numbers)))


def _unmapped(address: _IpAddress) -> _IpAddress:
    """An IPv4 address that is written as IPv6 as what it is."""
    return getattr(address, "ipv4_mapped", None) or address


def _reached(listeners: Sequence[Listener], wanted: _IpAddress) -> list[Listener]:
    """Those that take connections to an address: its own before any address; IPv6 takes IPv4."""
    for address in (wanted, type(wanted)(0), ipaddress.IPv6Address(0)):
        found = [listener for listener in listeners if listener.address == address]
        if found:
            return found
    return []


def _holders(inodes: set[str], table: dict[int, process_table.Process], proc: Path) -> set[int]:
    """The processes that hold one of these sockets, of those that may be looked into."""
    holders = set()
    for pid in table:
        try:
            if not inodes.isdisjoint(process_table.open_files(pid, proc)):
                holders.add(pid)
        except PermissionError:
            continue
    return holders


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # of a container or a directory that is not known here
        return str(number)
