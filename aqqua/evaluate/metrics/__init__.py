"""How good predictions are: pure functions on arrays; judge.py puts the figures together."""
