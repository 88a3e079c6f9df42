"""Models that make vectors of texts and of pictures: from a model folder to a bundle."""
