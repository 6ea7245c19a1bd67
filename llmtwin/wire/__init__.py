"""What travels between edge and server: prompts, adapter packages, seals. It opens no connection."""
