"""What the tables of a study say: frames in, frames out, no model and no search."""
