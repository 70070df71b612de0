"""Fire drills: faults on a private copy of the configuration, with doubles for gateways, and what came of them."""
