"""The sandbox: a server that speaks Razorpay's API, with its own book of money, and misbehaves on command."""
