"""Which processes serve a port: real ones, and what the kernel would show in /proc of others."""

import ipaddress
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from slm_energy.engines.openai.listener import FORWARDERS, server_processes
from slm_energy.errors import EngineError

LISTENS = (
    "import socket, sys\n"
    "server = socket.create_server((sys.argv[1], 0), family=int(sys.argv[2]))\n"
    "print(server.getsockname()[1], flush=True)\n"
)
WAITS = "input()\n"
FORKS = "import os\nif os.fork() == 0:\n    import signal\n    signal.pause()\n"

USER = 2**31
"""Owner of the sockets below; nobody here has this number."""

Listening = Callable[..., tuple[psutil.Popen, int]]


@pytest.fixture
def listening() -> Iterator[Listening]:
    """Starts processes that listen on a free port; they end with the test."""
    processes = []

    def start(
        code: str = WAITS, address: str = "127.0.0.1", program: str = sys.executable
    ) -> tuple[psutil.Popen, int]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        process = psutil.Popen(
            [program, "-c", LISTENS + code, address, str(int(family))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        processes.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        for each in [*process.children(recursive=True), process]:
            each.kill()
        process.communicate()


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_process_that_listens_is_found(listening, address):
    process, port = listening(address=address)
    assert server_processes("127.0.0.1", port) == [process.pid]


def test_of_processes_that_share_a_socket_the_parent_is_the_server(listening):
    process, port = listening(FORKS + WAITS)
    while not process.children():
        pass
    assert server_processes("127.0.0.1", port) == [process.pid]


def test_a_forwarder_is_refused_by_its_name(listening, tmp_path):
    program = tmp_path / "socat"
    program.symlink_to(os.path.realpath(sys.executable))
    process, port = listening(program=str(program))
    with pytest.raises(EngineError, match=rf"passed on by socat \(process {process.pid}\)"):
        server_processes("127.0.0.1", port)


def test_a_port_on_which_no_process_listens_is_refused():
    """As where a container's port is published by rules of the firewall."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(EngineError, match=rf"url: port {port} is passed on, as no process listens"):
        server_processes("127.0.0.1", port)


def test_a_server_within_the_sweeps_own_program_is_refused():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(EngineError, match="belongs to the program that runs this sweep"),
    ):
        server_processes("127.0.0.1", server.getsockname()[1])


def kernels(address: str) -> str:
    """An address as the kernel writes it in /proc/net/tcp."""
    packed = ipaddress.ip_address(address).packed
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


@pytest.fixture
def proc(tmp_path: Path) -> Callable[..., Path]:
    """A folder like /proc: sockets on port 8000 by inode, and processes that hold some of them."""

    def make(
        sockets: dict[int, str], processes: dict[int, tuple[str, int, tuple[int, ...]]]
    ) -> Path:
        (tmp_path / "net").mkdir()
        for table, version in (("tcp", 4), ("tcp6", 6)):
            rows = [
                f"   0: {kernels(address)}:1F40 {kernels(address)}:0000 0A 00000000:00000000"
                f" 00:00000000 00000000 {USER}        0 {inode} 1 0000000000000000 100 0 0 10 0"
                for inode, address in sockets.items()
                if ipaddress.ip_address(address).version == version
            ]
            (tmp_path / "net" / table).write_text("\n".join(["  sl  local_address", *rows]) + "\n")
        for pid, (name, parent, inodes) in processes.items():
            files = tmp_path / str(pid) / "fd"
            files.mkdir(parents=True)
            stat = f"{pid} ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 7 2 1 0 20 0 1 0 100"
            (tmp_path / str(pid) / "stat").write_text(stat)
            for inode in inodes:
                (files / str(inode)).symlink_to(f"socket:[{inode}]")
        return tmp_path

    return make


BOTH = {7: ("own address", 1, (70,)), 8: ("any address", 1, (80,)), 9: ("any v6", 1, (90,))}


@pytest.mark.parametrize(
    ("sockets", "wanted", "server"),
    [
        ({70: "127.0.0.1", 80: "0.0.0.0", 90: "::"}, "127.0.0.1", 7),
        ({70: "127.0.0.1", 80: "0.0.0.0", 90: "::"}, "192.0.2.7", 8),
        ({70: "127.0.0.1", 90: "::"}, "192.0.2.7", 9),
        ({70: "::ffff:127.0.0.1", 80: "0.0.0.0"}, "127.0.0.1", 7),
        ({70: "::1", 80: "0.0.0.0", 90: "::"}, "::1", 7),
        ({80: "0.0.0.0", 90: "::"}, "::1", 9),
    ],
)
def test_a_socket_of_the_address_itself_takes_the_connection(proc, sockets, wanted, server):
    """An ssh -L on the loopback interface hides a server on all interfaces."""
    assert server_processes(wanted, 8000, proc(sockets, BOTH)) == [server]


def test_a_socket_that_systemd_opened_belongs_to_its_service(proc):
    made = proc(
        {70: "0.0.0.0"},
        {
            1: ("systemd", 0, (70,)),
            os.getpid(): ("python3", 1, ()),
            30: ("vllm", 1, (70,)),
            31: ("a) worker (", 30, (70,)),
        },
    )
    assert server_processes("127.0.0.1", 8000, made) == [30]


def test_servers_that_share_a_port_are_all_returned(proc):
    made = proc({70: "0.0.0.0", 71: "0.0.0.0"}, {5: ("one", 1, (70,)), 6: ("two", 1, (71,))})
    assert server_processes("127.0.0.1", 8000, made) == [5, 6]


def test_a_server_that_cannot_be_looked_into_is_refused_with_the_remedy(proc):
    """As one of another user, or of a container with process ids of its own."""
    made = proc({70: "0.0.0.0"}, {5: ("vllm", 1, ())})
    with pytest.raises(EngineError) as refusal:
        server_processes("127.0.0.1", 8000, made)
    for part in (f"of user {USER}", "run the sweep as that user", "--pid=host", "options.command"):
        assert part in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", sorted(FORWARDERS))
def test_every_forwarder_has_a_name_that_the_kernel_can_show(proc, name):
    assert len(name) <= 15
    with pytest.raises(EngineError, match="only this machine is measured"):
        server_processes("127.0.0.1", 8000, proc({70: "0.0.0.0"}, {5: (name, 1, (70,))}))
