"""Small models that are trained here, to show that what is served means something."""
