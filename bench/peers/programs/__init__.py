"""Programs inside a peer's own environment, spoken to in lines of JSON."""
