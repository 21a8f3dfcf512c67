"""How calls reach a server: the only place that differs between the two clients by hand."""
