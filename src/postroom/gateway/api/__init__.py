"""The endpoints of the gateway, and the schemas of what they take and answer."""
