"""A SLURM of two nodes on this one machine, started for a test and stopped after it.

Debian's packages slurm-wlm and munge (22.05), without systemd: a munged with its own key and socket, one
slurmctld, two slurmd on loopback. By hand, for a look: `python tests/launch/slurm_here.py FOLDER`, then
`SLURM_CONF=FOLDER/slurm.conf sinfo`; Ctrl-C stops it. Needs root: a slurmd starts tasks for other users.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "sinfo", "sacct")
START_S = 30
NODES = ("n1", "n2")
CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=30
KillWait=5
JobRequeue=1
SlurmdParameters=config_overrides
TreeWidth=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=60 State=UP OverSubscribe=NO
"""


def why_not() -> str | None:
    """Why SLURM cannot be run here; None where it can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        return f"no {', '.join(missing)}; apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "needs root: slurmd starts tasks for others"


class Slurm:
    """The cluster; use it as a context manager. Ends only processes that it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()

    @property
    def environment(self) -> dict[str, str]:
        """Of every command that is to talk to this SLURM."""
        path = f"{os.environ['PATH']}:/usr/sbin"
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def __enter__(self) -> "Slurm":
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "state").mkdir()
        conf = CONF.format(host=socket.gethostname().split(".")[0], folder=self.folder, ports=_free_ports(3))
        (self.folder / "slurm.conf").write_text(conf)
        (self.folder / "cgroup.conf").touch()
        with self._stack:
            self._start_munge()
            self._start("slurmctld", "-D")
            for node in NODES:
                self._start("slurmd", "-D", "-N", node)
            self._wait_until_idle()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def call(self, *command: str) -> str:
        """Output of one of SLURM's commands."""
        ran = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=START_S, check=False
        )
        if ran.returncode:
            raise RuntimeError(f"{command}: exit code {ran.returncode}: {ran.stderr}")
        return ran.stdout.strip()

    def state(self, job: int) -> str:
        """Of a job, such as PENDING, RUNNING or COMPLETED; GONE when SLURM has forgotten it."""
        try:
            shown = self.call("scontrol", "show", "job", str(job))
        except RuntimeError:
            return "GONE"
        return shown.split("JobState=")[1].split()[0]

    def restarts(self, job: int) -> int:
        return int(self.call("scontrol", "show", "job", str(job)).split("Restarts=")[1].split()[0])

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        names = {
            "socket": "munge.socket",
            "pid-file": "munge.pid",
            "log-file": "munge.log",
            "seed-file": "munge.seed",
        }
        options = [f"--{option}={self.folder / name}" for option, name in names.items()]
        self._start("munged", "--foreground", "--force", f"--key-file={key}", *options)

    def _start(self, *command: str) -> None:
        with (self.folder / f"{command[0]}{command[-1].replace('/', '_')[-8:]}.out").open("w") as out:
            process = subprocess.Popen(command, env=self.environment, stdout=out, stderr=subprocess.STDOUT)
        self._stack.callback(_end, process)

    def _wait_until_idle(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                if self.call("sinfo", "-h", "-o", "%D %t") == f"{len(NODES)} idle":
                    return
            except RuntimeError:
                pass  # the controller is not up yet
            time.sleep(0.2)
        logs = "\n".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.log")))
        raise RuntimeError(f"SLURM was not up within {START_S} s:\n{logs}")


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; all are found before one is let go, so they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    with Slurm(Path(sys.argv[1]).resolve()) as slurm:
        sys.stdout.write(f"SLURM_CONF={slurm.environment['SLURM_CONF']}\n{slurm.call('sinfo', '-N', '-l')}\n")
        sys.stdout.flush()
        while True:
            time.sleep(1)
