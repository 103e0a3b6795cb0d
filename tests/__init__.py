"""The tests, room by room; `conftest.py` says what they stand on."""
