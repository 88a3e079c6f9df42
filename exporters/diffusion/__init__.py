"""From a diffusers folder to the bundle of a model of pictures."""
