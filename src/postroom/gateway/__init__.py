"""The HTTP service: the Communicate REST API on top of the outbox."""
