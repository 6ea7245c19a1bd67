"""The private side of a twin: collects, keeps what is unsent, pushes, executes orders. Never the server."""
