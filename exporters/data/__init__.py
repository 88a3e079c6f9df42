"""Texts that a model is held to: original, Apache-2.0 as the rest."""
