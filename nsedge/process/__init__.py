"""This process: descriptors, mappings, and what a service supervisor is told."""
