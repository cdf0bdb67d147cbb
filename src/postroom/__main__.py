"""`python -m postroom` is the command line."""

import sys
from pathlib import Path

# Python puts the current folder first: whoever may write a file there could have it imported, or named as a plugin.
if not sys.flags.safe_path and sys.path and Path(sys.path[0]).resolve() == Path.cwd():
    del sys.path[0]

from postroom.cli import main

main()
