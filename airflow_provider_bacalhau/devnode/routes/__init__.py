"""The HTTP API, one module for each part: they translate between requests and the node, and decide nothing."""
