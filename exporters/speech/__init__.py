"""From a Whisper model's folder to a bundle."""
