"""Sound: files to samples, samples to windows and log-mel features, and where somebody speaks."""
