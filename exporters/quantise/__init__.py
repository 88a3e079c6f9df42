"""The schemes that weights can be quantised with."""
