"""One file a group of commands; each is a thin skin over one library call, and heavy imports happen inside it."""
