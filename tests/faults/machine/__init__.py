"""A machine that makes histories out of everything that can happen to the store, and checks each of them.

Two layers. In the first (`seeded.py`, `stateful.py`) the store's processes are threads that a scheduler moves
from point to point, one at a time: reproducible, and the bulk. In the second (`processes.py`) they are
processes that are killed, stopped and continued. `python -m tests.faults.machine --help` runs both.
"""
