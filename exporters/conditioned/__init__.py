"""Decoders that attend to an encoder's memory, whatever that is about."""
