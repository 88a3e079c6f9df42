"""What a model wrote, told apart while it writes: thoughts, text, tool calls."""
