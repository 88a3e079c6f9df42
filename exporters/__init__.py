"""Offline: from a model folder to a deployable bundle."""
