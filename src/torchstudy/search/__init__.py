"""What to try next, and the Ax experiment that stands for a study."""
