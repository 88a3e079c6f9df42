"""From noise to a picture: schedulers and guidance, on arrays, without a model."""
