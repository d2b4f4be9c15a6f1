"""The nodes that need a worker, one module a kind."""
