"""From graphs to a bundle: the stages, the package, the check of what was packaged."""
