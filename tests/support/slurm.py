"""A SLURM cluster on this machine: each node has its own host name, address, processes and Ray by namespaces of Linux.

So it behaves as machines with one shared disk: nodes find each other by name and do not see each other's processes.
It needs root, Linux, `ip` and Debian's package `slurm-wlm`. Nothing of it outlives the block.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("slurmctld", "slurmd", "sbatch", "ip", "unshare", "nsenter")
NETWORK = "10.77.0"
"""Of the nodes alone; no other process of this machine can reach it."""

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={head}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ReturnToService=2
GresTypes=gpu
NodeName={names} CPUs=32 Gres=gpu:4
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
"""`config_overrides`: the nodes claim what the scripts ask for. Their GPUs are empty files."""

NODE = """\
set -e
hostname {name}
mount --bind {folder}/hosts /etc/hosts
mount -t tmpfs tmpfs /tmp/ray
ip link set lo up
until ip -4 addr show eth0 2>/dev/null | grep -q inet; do sleep 0.05; done
{head}
slurmd -D -N {name} >{folder}/{name}.out 2>&1 &
while :; do wait || :; sleep 1; done
"""
"""What a node runs as its first process, which also reaps those that lost their parent."""


def missing() -> str | None:
    """What this machine lacks for a cluster, as the reason of a skip; None if it lacks nothing."""
    if os.geteuid() != 0:
        return "starting SLURM needs root"
    if lacking := [program for program in NEEDED if shutil.which(program, path=_path()) is None]:
        return f"lacks {', '.join(lacking)} (Debian's slurm-wlm and iproute2)"
    probe = "ip link add a0 type veth peer name a1 && ip link add b0 type bridge"
    namespaces = subprocess.run(["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "sh", "-c", probe])
    return "namespaces or virtual network devices are not allowed here" if namespaces.returncode else None


@dataclass(frozen=True)
class Slurm:
    """A running cluster."""

    folder: Path
    nodes: dict[str, int]
    """Process ids of the first processes of the nodes, by name. The first node is the head."""

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> str:
        """The output of a command on the head."""
        result = subprocess.run(
            ["nsenter", f"--target={next(iter(self.nodes.values()))}", "--all", f"--wd={cwd or self.folder}", *command],
            env=_environment(self.folder) | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)}: {result.stdout}")
        return result.stdout

    def hide(self, node: str, folder: Path) -> None:
        """Show a node an empty folder in place of that one."""
        inside = ["nsenter", f"--target={self.nodes[node]}", "--mount"]
        subprocess.run([*inside, "mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` says."""
        words = self.run("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)


@contextmanager
def slurm(folder: Path, names: Sequence[str]) -> Iterator[Slurm]:
    """A cluster of nodes with these names that lives as long as the block. Its files lie in `folder`."""
    (folder / "state").mkdir(parents=True)
    Path("/tmp/ray").mkdir(exist_ok=True)  # every node mounts its own over it
    hosts = [f"{NETWORK}.{index} {name}" for index, name in enumerate(names, 1)]
    (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
    conf = CONFIGURATION.format(folder=folder, head=names[0], names=",".join(names))
    (folder / "slurm.conf").write_text(conf)
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-3]\n")
    for index in range(4):
        (folder / f"gpu{index}").touch()
    with ExitStack() as stack:
        nodes = {name: stack.enter_context(_node(folder, name, head=name == names[0])) for name in names}
        _connect(list(nodes.values()))
        cluster = Slurm(folder, nodes)
        deadline = time.monotonic() + 60
        while _answer(cluster).count("idle") < len(names):
            if time.monotonic() > deadline:
                raise TimeoutError(_answer(cluster) + (folder / "slurmctld.log").read_text())
            time.sleep(0.2)
        yield cluster


def _answer(cluster: Slurm) -> str:
    try:
        return cluster.run("sinfo", "--noheader", "--Node", "--format=%N %T")
    except RuntimeError as error:  # the controller does not answer yet
        return str(error)


@contextmanager
def _node(folder: Path, name: str, head: bool) -> Iterator[int]:
    """The first process of a node. With it all others of the node end."""
    controller = f"slurmctld -D >{folder}/slurmctld.out 2>&1 &" if head else ""
    script = NODE.format(folder=folder, name=name, head=controller)
    flags = ["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    command = ["unshare", *flags, "bash", "-c", script]
    with subprocess.Popen(command, env=_environment(folder), stdout=subprocess.DEVNULL) as process:
        try:
            yield _child(process.pid)
        finally:
            process.kill()


def _child(parent: int) -> int:
    """The only child of a process, once it has one."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    while not (children := path.read_text().split()):
        time.sleep(0.01)
    return int(children[0])


def _connect(nodes: Sequence[int]) -> None:
    """One network of all nodes, which a bridge on the first holds together."""
    commands = ["link add eth0 type bridge", "link set eth0 up", f"addr add {NETWORK}.1/24 dev eth0"]
    for index, node in enumerate(nodes[1:], 2):
        commands.append(f"link add port{index} type veth peer name eth0 netns {node}")
        commands.append(f"link set port{index} master eth0 up")
    for command in commands:
        _ip(nodes[0], command)
    for index, node in enumerate(nodes[1:], 2):
        _ip(node, "link set eth0 up")
        _ip(node, f"addr add {NETWORK}.{index}/24 dev eth0")


def _ip(node: int, command: str) -> None:
    subprocess.run(["nsenter", f"--target={node}", "--net", "ip", *command.split()], check=True)


def _path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"])


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
