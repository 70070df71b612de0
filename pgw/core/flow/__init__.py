"""The imperative shell, in the order of the line a payment walks."""
