"""From files of examples to training rows and held-out rows: read, check, split, render, with every lost row told."""
