"""Two commands in turn, several rounds, and what their medians say."""

import datetime
import os
import platform
import statistics
import subprocess
import sys
import threading
import time


class Child:
    """One finished command: its output, wall time and peak resident memory."""

    def __init__(self, command, **environment):
        command = [str(word) for word in command]
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment}
        )
        # Read both pipes to their ends before waiting, or a full pipe stops the child.
        parts = {}
        readers = [
            threading.Thread(target=lambda n=n, s=s: parts.__setitem__(n, s.read()))
            for n, s in (("out", process.stdout), ("err", process.stderr))
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.seconds = time.perf_counter() - start
        self.peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.output = parts["out"].decode()
        if process.returncode != 0:
            sys.stderr.write(parts["err"].decode()[-2000:])
            sys.exit(f"{' '.join(command)}: exit status {process.returncode}")


def machine():
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next(l.split(":")[1].strip() for l in file if l.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def compare(what, ours, peer, rounds, limit, unit="s"):
    """Runs both in turn, each a function that returns a figure, and prints a row of RESULTS.md.

    The order changes with every round. `limit` is the most that ours / peer may be; above it the
    exit status is 1.
    """
    figures = {"ours": [], "peer": []}
    for number in range(rounds):
        pair = [("ours", ours), ("peer", peer)]
        for name, function in pair if number % 2 == 0 else reversed(pair):
            figures[name].append(function())
            print(f"round {number + 1}: {name} {figures[name][-1]:.3f} {unit}", file=sys.stderr)
    a, b = statistics.median(figures["ours"]), statistics.median(figures["peer"])
    row(what, f"{a:.3f} {unit}", f"{b:.3f} {unit}", a / b, limit)
    return a / b <= limit


def middle(figures):
    return statistics.median(figures)


def row(what, ours, peer, ratio, limit):
    command = " ".join([os.path.join("Benchmarks", os.path.basename(sys.argv[0])), *sys.argv[1:]])
    today = datetime.date.today().isoformat()
    cells = [what, machine(), f"`{command}`", ours, peer, f"{ratio:.3f}", f"{limit:g}", today]
    print("| " + " | ".join(cells) + " |", flush=True)


def nibble(options):
    return options.nibble or os.environ.get("NIBBLE") or release_build()


def release_build():
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    build = [os.path.join(root, "scripts", "build")]
    subprocess.run([*build, "--product", "nibble"], check=True, stdout=sys.stderr)
    shown = subprocess.run([*build, "--show-bin-path"], check=True, stdout=subprocess.PIPE)
    return os.path.join(shown.stdout.decode().strip(), "nibble")


def interpreter(options):
    """The Python that has transformers: given, or the one Interop/environment makes."""
    if options.python:
        return options.python
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "Interop", "environment")
    done = subprocess.run([script, "transformers"], check=True, stdout=subprocess.PIPE)
    return done.stdout.decode().strip()


def add_options(parser, rounds=3):
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--nibble", help="the command (default: $NIBBLE, or a release build)")
    parser.add_argument("--python", help="a Python with transformers (default: Interop/environment)")
