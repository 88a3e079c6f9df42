"""The HTTP shim: an ordinary client of the core that speaks JSON and server-sent events."""
