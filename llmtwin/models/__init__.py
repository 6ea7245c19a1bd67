"""Base models, adapters, tuning and engines: the one part that may own torch."""

import os

# torch keeps what oneDNN prepared for the last 1,024 shapes of products, scratch memory included (its issue
# 27971). A tuning has few shapes.
os.environ.setdefault("LRU_CACHE_CAPACITY", "32")
