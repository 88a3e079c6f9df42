"""All stages in one line: a recipe, the plan that it makes, and its course."""
