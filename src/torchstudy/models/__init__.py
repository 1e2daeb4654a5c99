"""What a run leaves for use: saved models, and how they are loaded."""
