"""What a process tree costs, as the kernel accounts it: CPU time, memory, system calls.

CPU time comes from /proc/PID/stat (user and system time, waited-for children included) and counts clock ticks of
10 ms, so a measured span must be long enough to make that small.
"""

import collections
import os
import re
import shutil
import signal
import socket
import subprocess
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def tree(root):
    """The process and all its descendants."""
    children = collections.defaultdict(list)
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = _stat(name)
        if fields:
            children[int(fields[1])].append(int(name))
    found, unseen = [], [root]
    while unseen:
        pid = unseen.pop()
        found.append(pid)
        unseen += children[pid]
    return found


def cpu_seconds(root):
    """User and system time of the tree since it began."""
    stats = filter(None, map(_stat, tree(root)))
    return sum(sum(map(int, fields[11:15])) for fields in stats) / TICKS_PER_SECOND


def memory_kib(root):
    """Proportional set size of the tree: shared pages are counted once."""
    total = 0
    for pid in tree(root):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                total += int(re.search(r"^Pss:\s+(\d+)", rollup.read(), re.M).group(1))
        except (OSError, AttributeError):
            pass
    return total


def _stat(pid):
    """The fields of /proc/PID/stat from the state on; the name before them may hold anything."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(") ")[2].split()
    except OSError:
        return None


class SystemCalls:
    """Counts the system calls of a tree with strace while the block runs."""

    def __init__(self, root, output):
        self.output = output
        attach = [word for pid in tree(root) for word in ("-p", str(pid))]
        self.strace = subprocess.Popen(
            ["strace", "-c", "-f", "-o", output, *attach],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(len(attach) // 2):
            if "attached" not in self.strace.stderr.readline():
                raise RuntimeError("strace cannot attach: is ptrace allowed here?")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.strace.send_signal(signal.SIGINT)
        self.strace.wait()
        self.strace.stderr.close()

    def counts(self):
        """Calls by name."""
        rows = (line.split() for line in open(self.output))
        named = (row for row in rows if len(row) >= 5 and row[0][0].isdigit() and row[-1] != "total")
        return {row[-1]: int(row[3]) for row in named}


class Server:
    """A proxy under test: its own directory, a free port, stopped with everything it started."""

    def __init__(self, name, directory, command_for):
        self.name = name
        self.directory = directory
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        os.chmod(directory, 0o777)  # squid drops root and still writes here
        self.port = free_port()
        self.log = os.path.join(directory, "output.log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command_for(directory, self.port), cwd=directory, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self._wait_until_it_listens()

    @property
    def pid(self):
        return self.process.pid

    def _wait_until_it_listens(self, seconds=15):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        with open(self.log, errors="replace") as log:
            tail = " ".join(log.read()[-300:].split())
        self.stop()
        raise RuntimeError(f"{self.name} did not start: {tail}")

    def stop(self):
        family = tree(self.pid)
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in family[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


def free_port():
    """Below the ephemeral range, so that no outgoing connection of the load takes it meanwhile."""
    while True:
        free_port.last += 1
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", free_port.last))
                return free_port.last
            except OSError:
                continue


free_port.last = 21000 + os.getpid() % 5000
