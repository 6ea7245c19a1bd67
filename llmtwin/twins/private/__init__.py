"""What is private in a text, whichever kind of twin it is for: found, and hidden behind stand-ins."""
