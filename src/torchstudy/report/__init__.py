"""One offline HTML file from a study's tables; no torch, no search, no network."""
