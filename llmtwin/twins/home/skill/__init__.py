"""What is asked of a home: wordings and a vocabulary, the adapter learned from them, and how to build it."""
