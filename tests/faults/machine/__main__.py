"""See `driver.py`, whose functions the processes that play histories import by its name."""

from __future__ import annotations

import sys

from tests.faults.machine.driver import main

sys.exit(main())
