"""Who did what, when, to what. Append-only; lines hold ids, never personal data."""
