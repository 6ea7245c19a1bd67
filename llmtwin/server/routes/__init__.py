"""The HTTP routes: parse, let the core do it, answer. What is refused is refused below them."""
