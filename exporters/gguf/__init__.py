"""From a GGUF file to a model folder or an fp32 graph, without PyTorch."""
