"""Runs the nibble command and reads what it prints."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile


def add_options(parser):
    parser.add_argument(
        "--nibble",
        default=os.environ.get("NIBBLE", "nibble"),
        help="the command to check (default: $NIBBLE, or nibble in PATH)",
    )


def run(nibble, *arguments):
    """Standard output of `nibble ARGUMENTS`; standard error is passed on."""
    command = [nibble, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"FAIL {' '.join(command)}: exit status {done.returncode}")
    return done.stdout.decode("utf-8")


def run_json(nibble, *arguments):
    """The one JSON object that `nibble ARGUMENTS --json` prints."""
    text = run(nibble, *arguments, "--json")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        sys.exit(f"FAIL nibble {arguments[0]} --json: {error}: {text[:200]!r}")


def read_text(path):
    """A UTF-8 text with its line ends as line feeds, as Python reads it by default."""
    with open(path, encoding="utf-8") as file:
        return file.read()


@contextlib.contextmanager
def text_file(text):
    """The path of a file holding exactly `text`, for the command to read."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", suffix=".txt") as file:
        file.write(text)
        file.flush()
        yield file.name


class Verdict:
    """Collects what held and what did not; `finish` sets the exit status."""

    def __init__(self):
        self.failures = 0

    def check(self, held, what):
        print(("ok   " if held else "FAIL ") + what, flush=True)
        self.failures += not held

    def finish(self):
        sys.exit(1 if self.failures else 0)
