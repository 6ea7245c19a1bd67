"""What only the twin of a model does: a proxy before its primary, how near it is to it, and its gate.

All of it is on this machine, in the twin's folder; but for `try_change` nothing is asked of the primary.
"""
