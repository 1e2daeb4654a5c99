"""Several trainings of one architecture as one network's training."""
