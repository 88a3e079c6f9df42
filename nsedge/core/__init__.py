"""The core in process: requests to models and back."""
