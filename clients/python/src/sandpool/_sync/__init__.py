"""The client for threads, made from _async by generate.sh: change it there."""
