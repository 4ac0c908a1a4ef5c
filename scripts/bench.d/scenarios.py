"""What is measured: the scenarios, and one round of each."""

import json
import os
import statistics
import subprocess
import time

from peers import CONNECT, FORWARD
from processes import SystemCalls, cpu_seconds, memory_kib

MIB = 1 << 20


class Scenario:
    """A load, and the unit its cost is given in."""

    def __init__(self, name, title, wanted, unit, rounds=None, **load):
        self.name, self.title, self.wanted, self.unit, self.rounds, self.load = name, title, wanted, unit, rounds, load


REQUEST, GIGABYTE, IDLE, CALLS = "CPU us/request", "CPU s/GB", "KiB each", "calls/request"

SCENARIOS = [
    Scenario("forward", "forward GET, keep-alive, 100 connections, 80 bytes", FORWARD, REQUEST,
             connections=100, requests=10**9),
    Scenario("connection", "forward GET, a connection per request, 50 at a time", FORWARD, REQUEST,
             connections=50, requests=8000, per_connection=1),
    Scenario("connect", "CONNECT, one GET, close; 50 at a time", CONNECT, REQUEST,
             connections=50, requests=6000, per_connection=1),
    Scenario("tunnel-down", "tunnel, 64 MiB down, 4 at a time", CONNECT, GIGABYTE,
             connections=4, requests=48, download=64 * MIB),
    Scenario("tunnel-up", "tunnel, 64 MiB up, 4 at a time", CONNECT, GIGABYTE,
             connections=4, requests=48, upload=64 * MIB),
    Scenario("body-down", "forward GET of 64 MiB, 4 at a time", FORWARD, GIGABYTE,
             connections=4, requests=48, download=64 * MIB),
    Scenario("body-up", "forward POST of 64 MiB, 4 at a time", FORWARD, GIGABYTE,
             connections=4, requests=48, upload=64 * MIB),
    Scenario("idle-client", "memory of an idle client connection", FORWARD, IDLE, rounds=1),
    Scenario("idle-tunnel", "memory of an idle tunnel", CONNECT, IDLE, rounds=1),
    Scenario("calls-forward", "system calls of a forwarded request, keep-alive, 100 connections", FORWARD, CALLS,
             rounds=1, connections=100, requests=5000),
    Scenario("calls-connect", "system calls of CONNECT, one GET, close", CONNECT, CALLS,
             rounds=1, connections=10, requests=500, per_connection=1),
]


class Load:
    """The load generator: host/examples/load.rs."""

    def __init__(self, program, seconds):
        self.program, self.seconds = program, seconds
        self.origin_process = subprocess.Popen([program, "origin"], stdin=subprocess.DEVNULL,
                                               stdout=subprocess.PIPE, text=True)
        self.origin = self.origin_process.stdout.readline().strip()

    def stop(self):
        self.origin_process.terminate()
        self.origin_process.wait()

    def command(self, route, port, seconds=None, **options):
        subcommand = {"forward": "forward", "CONNECT": "tunnel", "relay": "relay"}[route]
        words = [self.program, subcommand, "--proxy", f"127.0.0.1:{port}", "--origin", self.origin,
                 "--seconds", str(seconds or self.seconds)]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        return words

    def run(self, route, port, **options):
        done = subprocess.run(self.command(route, port, **options), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise RuntimeError(f"the load generator failed: {done.stderr.strip()}")
        return json.loads(done.stdout)


def warm(load, route, port):
    """A few requests first: caches, pools, and the proof that this proxy answers at all."""
    result = load.run(route, port, connections=4, requests=200, seconds=5)
    if result["requests"] < 100:
        raise RuntimeError(result["first_error"] or "no answers")


def round_of(scenario, load, server, route, idle):
    """One measurement: a dictionary with at least `cost`."""
    if scenario.unit == IDLE:
        return idle_memory(load, server, route, idle)
    if scenario.unit == CALLS:
        return system_calls(scenario, load, server, route)
    before = cpu_seconds(server.pid)
    result = load.run(route, server.port, **scenario.load)
    time.sleep(0.05)  # include the cost of closing the last connections
    spent = cpu_seconds(server.pid) - before
    done = result["requests"]
    if done == 0:
        raise RuntimeError(result["first_error"] or "nothing was answered in time")
    result["cost"] = spent / done * 1e6 if scenario.unit == REQUEST else spent / (result["bytes"] / 1e9)
    result["rate"] = done / result["seconds"] if scenario.unit == REQUEST else result["bytes"] / 1e9 / result["seconds"]
    return result


def idle_memory(load, server, route, connections):
    time.sleep(0.5)
    before = memory_kib(server.pid)
    with subprocess.Popen(load.command(route, server.port, seconds=60, connections=connections, hold=True),
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        result = json.loads(holder.stdout.readline())
        time.sleep(1)
        result["cost"] = (memory_kib(server.pid) - before) / max(1, result["open"])
        holder.stdin.close()
    result["note"] = f"{result['open']} held, process before {before / 1024:.1f} MiB"
    return result


def system_calls(scenario, load, server, route):
    with SystemCalls(server.pid, os.path.join(server.directory, "strace.txt")) as calls:
        result = load.run(route, server.port, seconds=60, **scenario.load)
    counts = calls.counts()
    done = max(1, result["requests"])
    result["cost"] = sum(counts.values()) / done
    often = sorted(counts.items(), key=lambda item: -item[1])[:7]
    result["note"] = " ".join(f"{name} {count / done:.2f}" for name, count in often)
    return result


def paired_ratios(rounds, reference):
    """What each round cost against the reference in the same round."""
    return [one["cost"] / other["cost"] for one, other in zip(rounds, reference) if other["cost"]]


def median(rounds, key):
    values = [one[key] for one in rounds if key in one]
    return statistics.median(values) if values else None
