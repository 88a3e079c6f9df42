"""Logits to tokens: ordered steps over the rows of a batch, ending in a draw for each."""
