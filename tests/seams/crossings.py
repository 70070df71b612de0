"""Every crossing there is -> which test lets a process die on both sides of it, or why none does."""

PAYING = ("open", "charge", "turn", "close")
"""test_every_commit: the server dies with a payment under way."""

CHECKING = ("claim", "record", "enquire", "win", "capture", "settle")
"""test_every_check: a verifier dies with a payment whose customer acts."""

WATCHING = ("claim_watch", "move_watch", "find_money", "reverse", "give_back")
"""test_every_check: it dies with a payment that failed, whose money comes late."""

SERVING = ("skip", "configure", "receive_webhook", "handle_webhook", "resolve", "close_review", "die")
"""test_every_deed: the server dies in a request, or in its own work."""

TYPED = ("make_key", "revoke_key", "requeue")
"""test_every_deed: a command dies."""

RELAYING = ("publish", "append", "record_minute")
"""test_every_deed: a metrics worker dies."""

COVERED = (*PAYING, *CHECKING, *WATCHING, *SERVING, *TYPED, *RELAYING)

NOT_COVERED = {
    "open_violation": "what the auditor found, and could not write down, it finds again at its next look",
    "clear_violation": "as open_violation",
    "transition": "history for people, no effect on any payment: one that a death swallows is missing from it",
}
