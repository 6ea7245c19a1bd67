"""The server: the prompt database, the adapters and the answers of many twins, over HTTP."""
