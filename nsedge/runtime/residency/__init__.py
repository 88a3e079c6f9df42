"""Which models are in memory: the catalogue, loads, eviction, usage and prediction."""
