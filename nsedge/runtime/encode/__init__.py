"""The encode loop: inputs that wait, batches of them, and the thread that runs them."""
