"""Models that write text and see pictures: from their folders to bundles."""
