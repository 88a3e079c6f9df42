"""Where a model comes from: a folder, a repository of a hub, and the texts it is held to."""
