"""Training: what a step is made of, how it is computed, and how it goes on after an interruption."""
