"""Payment."""
