"""``python -m tsstreamer``: the command, where no script was installed."""

import sys

from tsstreamer._cli import main

sys.exit(main())
