"""What generates text: the interface in `api`, the engines beside it."""
