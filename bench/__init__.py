"""Benchmarks: every claim of speed in docs/performance.md is printed by one of these."""
