"""The embedded engine: one SQLite file, written by one thread, read by all."""
