"""What only a model's twin does: a proxy before its primary, how near it is to it, gate, canary, and what if.

All of it is on this machine, in the twin's folder; but for `trying`, `users` and `equal` nothing is asked of
the primary.
"""
