"""The servers and engines we are measured against: each built and run in its own environment."""
