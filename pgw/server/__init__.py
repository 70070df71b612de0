"""The HTTP door: requests in, the flow asked, answers out; no business rules."""
