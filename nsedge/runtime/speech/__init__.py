"""What is said in a recording: a model's tokens to segments and words, with times."""
