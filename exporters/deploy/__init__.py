"""From a finished bundle to a served one: the store, the daemon, and the way back."""
