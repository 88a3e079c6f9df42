"""From a bundle to a hosted model: opening, trust, warm-up, golden checks, and a module a kind."""
