"""HTTP plumbing of the gateway: bodies, answers, errors, and the middleware every request passes."""
