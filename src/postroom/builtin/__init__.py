"""Transports that need no provider; they enter by the same entry points as any plugin."""
