"""From a folder or a name to one array of pixels, split without leaks."""
