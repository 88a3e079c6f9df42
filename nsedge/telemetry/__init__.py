"""Histograms, event-loop lag, and spans."""
