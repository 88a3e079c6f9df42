"""From a model folder to its fp32 graph through PyTorch, held to PyTorch's own logits."""
