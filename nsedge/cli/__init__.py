"""The command line: thin commands over the client, and the processes of the daemon."""
