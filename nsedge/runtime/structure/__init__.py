"""Answers held to a grammar: constraints compiled, and which tokens may come next."""
