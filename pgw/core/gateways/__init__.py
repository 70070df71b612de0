"""Gateways: each turns one attempt into a verdict, and an enquiry into a finding."""
