"""`postroom outbox`."""
