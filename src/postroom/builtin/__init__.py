"""Built-in providers, which need no service; they enter by the same entry points as any plugin."""
