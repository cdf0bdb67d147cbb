"""`postroom send-many`."""
