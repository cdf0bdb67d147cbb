"""Processes and sockets: how the gateway is run."""
