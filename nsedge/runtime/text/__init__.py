"""Prompts and templates to token ids, and token ids to text."""
