"""Models that make vectors of texts: from a model folder to a bundle."""
