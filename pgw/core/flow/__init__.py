"""The imperative shell: payments, breakers, verification, metrics, money, runtime."""
