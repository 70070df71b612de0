"""pgw: one payment in, the right gateway chosen, called once, and the truth written down."""
