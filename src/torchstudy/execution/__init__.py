"""Running a study: the ledger, the workers, and the loop that joins them."""
