"""Weights as they are deployed: packed to fewer bytes, and what is left of them after unpacking."""
