"""The ZeroMQ door: protocol, server and clients."""
