"""Request bodies -> messages."""
