"""The Wyoming protocol, by which Home Assistant and its satellites speak to voice services."""
