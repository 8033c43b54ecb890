"""What the endpoint tells of itself: logs, metrics and traces. Knows no route and no model."""
