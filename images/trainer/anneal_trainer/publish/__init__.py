"""From a complete checkpoint to an artifact with a digest and a model card, where the user wants it."""
