"""The kinds of twins, and what they share: what a kind is, and the check of commands."""
