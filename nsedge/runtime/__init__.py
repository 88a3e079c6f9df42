"""The engine room: models, slots, scheduling and sampling; no transport, no configuration."""
