"""Ready-made projects that `clew init` copies: data, not code of the house."""
