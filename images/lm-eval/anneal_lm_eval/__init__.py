"""lm-eval's tasks without lm-eval's asking: their rows before an Evaluation, their scores after it."""
