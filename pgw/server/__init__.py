"""The HTTP API: requests in, the flow called, answers out; no business rules."""
