"""From a captioner's folder to a bundle."""
