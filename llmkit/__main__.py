"""`llmkit`, `python -m llmkit` and `accelerate launch -m llmkit` are the command line.

A thread of Arrow's that has read Parquet through a Python file object may let go of it only while
the interpreter is taken down, and then ends the process by SIGABRT or never: a finished run that
looks failed, or holds its machine (https://github.com/apache/arrow/issues/45214, 50482). The
threads by which several processes talk (gloo) do so now and then. So a command that used either
leaves after Python's own exit handlers, and skips what comes after them.
"""

import atexit
import os
import sys

from llmkit.cli import main

UNRULY = {"pyarrow", "torch"}


def run() -> None:
    """Run the command in `sys.argv`, and leave with its exit status."""
    status = 1

    def leave() -> None:
        if not UNRULY.isdisjoint(sys.modules):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    atexit.register(leave)  # the first to be registered is the last to be called
    try:
        status = main()
    except SystemExit as end:  # argparse's
        status = end.code if isinstance(end.code, int) else 1
        raise
    sys.exit(status)


if __name__ == "__main__":
    run()
