"""Public data sets as they are handed out, one layout a file; `counterscan data import` makes a manifest of each."""
