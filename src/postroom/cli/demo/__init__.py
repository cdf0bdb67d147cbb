"""`postroom demo`."""
