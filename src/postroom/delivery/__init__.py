"""One message to one provider: routing, preparing, the attempt, failover, and what became of each recipient."""
