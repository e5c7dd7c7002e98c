"""Several hosts on one machine: network namespaces on a bridge, each with memory and temporary files of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

STUDY = """
name = "hosts"
question = "Do hosts change a row?"
chips = [24, 40, 48]
[[workloads]]
model = "llama-3-8b"
sequence = "8192 token"
batch = 128
{designs}
[search]
rows = "top:3"
"""
DESIGN = '[[designs]]\nlabel = "{n}"\nsystem = "hgx-h20"\nchange = {{ "chip.hbm_bandwidth" = "{bandwidth} TB/s" }}\n'
# A host sees the machine's files, but has shared memory and a Ray of its own.
ENTER = 'mount -t tmpfs tmpfs /dev/shm && mount --bind "$1" /tmp/ray && shift && exec "$@"'


def text(designs: int) -> str:
    return STUDY.format(designs="".join(DESIGN.format(n=n, bandwidth=3 + n / 100) for n in range(designs)))


class Hosts:
    """Hosts 0 (Ray's head, and the driver), 1 and 2 (a worker each). Needs root and the command ip (iproute2)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, os.getpid() % 10000
        self.bridge = f"sw{self.number}b"
        self.commands: list[subprocess.Popen[str]] = []
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "c0de" * 16, "RAY_USAGE_STATS_ENABLED": "0"}
        self.environment = os.environ | token | {"TMPDIR": "/tmp"}
        self.environment.pop("RAY_ADDRESS", None)

    def space(self, host: int) -> str:
        return f"sw{self.number}h{host}"

    def end(self, host: int) -> str:
        """The bridge's end of a host's cable."""
        return f"sw{self.number}v{host}"

    def address(self, host: int) -> str:
        return f"10.79.{self.number % 256}.{10 + host}"

    def wire(self) -> None:
        """Make the network. Raises CalledProcessError where that is not permitted."""
        ip("link", "add", self.bridge, "type", "bridge")
        ip("link", "set", self.bridge, "up")
        for host in range(3):
            space, end = self.space(host), self.end(host)
            ip("netns", "add", space)
            ip("link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", end, "master", self.bridge, "up")
            ip("-n", space, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")
            (self.folder / str(host)).mkdir()
        Path("/tmp/ray").mkdir(exist_ok=True)  # where the hosts' own folders are put
        self.on(0, "true").communicate(timeout=10)
        if self.commands[0].returncode:
            raise subprocess.CalledProcessError(self.commands[0].returncode, "mount")

    def on(self, host: int, *command: object) -> subprocess.Popen[str]:
        """Start a command on a host."""
        inside = ["ip", "netns", "exec", self.space(host), "sh", "-c", ENTER, "sh", str(self.folder / str(host))]
        log = (self.folder / f"host{host}.log").open("a")
        with log:
            process = subprocess.Popen(
                [*inside, *map(str, command)], stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment
            )
        self.commands.append(process)
        return process

    def start(self) -> None:
        """Start a cluster of all hosts."""
        for host in range(3):
            self.join(host)
        wait_until(lambda: list(self.folder.glob("2/session_*/logs/raylet.out")), 60, "the cluster does not start")

    def start_growing(self, most: int) -> None:
        """Start a head without CPUs, whose autoscaler adds nodes of one CPU each on the same host, up to `most`."""
        nodes = {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": most}
        head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
        flags = ("use_node_id_as_ip", "disable_node_updaters", "disable_launch_config_check")
        lists = ("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands",
                 "head_setup_commands", "worker_setup_commands", "head_start_ray_commands",
                 "worker_start_ray_commands")  # fmt: skip
        settings: dict[str, Any] = {key: [] for key in lists}
        settings |= {"cluster_name": "growing", "max_workers": most, "idle_timeout_minutes": 0.05, "upscaling_speed": 1}
        settings |= {"provider": {"type": "fake_multinode"} | dict.fromkeys(flags, True), "auth": {"ssh_user": "none"}}
        settings |= {"file_mounts": {}, "file_mounts_sync_continuously": False}
        settings |= {"head_node_type": "head", "available_node_types": {"head": head, "node": nodes}}
        (self.folder / "autoscaling.json").write_text(json.dumps(settings))
        self.environment |= {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
        self.join(0, "--autoscaling-config", self.folder / "autoscaling.json")
        wait_until(lambda: list(self.folder.glob("0/session_*/logs/monitor.log")), 60, "the cluster does not start")

    def join(self, host: int, *options: object) -> None:
        """Start Ray on a host."""
        ray = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address", self.address(host))
        memory = ("--object-store-memory", 80 << 20, "--disable-usage-stats")
        head = ("--head", "--port", 6379, "--num-cpus", 0, "--include-dashboard", "false")
        worker = ("--address", f"{self.address(0)}:6379", "--num-cpus", 1)
        self.on(host, *ray, *memory, *(head if host == 0 else worker), *options)

    def run(self, study: str, out: Path, *options: object) -> subprocess.Popen[str]:
        """Start a study on the cluster, from its head."""
        (self.folder / "study.toml").write_text(study)
        command = (sys.executable, "-m", "sweep.cli", "run", self.folder / "study.toml", "--json", "--out", out)
        return self.on(0, *command, "--address", f"{self.address(0)}:6379", *options)

    def workers(self) -> list[Path]:
        """Folders of the hosts at which a worker of Ray has run a task of this product."""
        return [
            folder
            for folder in (self.folder / "1", self.folder / "2")
            if list(folder.glob("session_*/runtime_resources/py_modules_files/*"))
        ]

    def kill(self, host: int) -> None:
        """End every process of a host."""
        for pid in ip("netns", "pids", self.space(host)).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def cut(self, host: int) -> None:
        """Pull a host's cable: nobody hears that it is gone."""
        ip("link", "set", self.end(host), "down")

    def remove(self) -> None:
        """End all that runs on the hosts, and take the network down."""
        for host in range(3):
            with suppress(subprocess.CalledProcessError):
                self.kill(host)
                ip("netns", "del", self.space(host))
            with suppress(subprocess.CalledProcessError):
                ip("link", "del", self.end(host))
        for process in self.commands:
            process.kill()
            process.communicate()
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", self.bridge)


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True, timeout=20).stdout


def wait_until(condition: Callable[[], object], limit_s: float, what: str) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def done_cases(out: Path) -> int:
    return sum(manifest.read_bytes().count(b'"done": "case"') for manifest in out.glob("*/manifest.jsonl"))
