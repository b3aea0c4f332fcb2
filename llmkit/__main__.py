"""`python -m llmkit` and `accelerate launch -m llmkit` are the command line."""

import sys

from llmkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
