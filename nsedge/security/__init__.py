"""Keys at rest, and files that are read anew when they change."""
