"""LoRAs as add-ons to a bundle."""
