"""Loopback servers that stand in for providers at the wire, for tests and for `postroom demo`."""
