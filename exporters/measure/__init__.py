"""How near a graph is to fp32, and whether that is near enough."""
