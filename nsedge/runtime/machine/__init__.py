"""Cores, control groups, memory and threads of this machine."""
