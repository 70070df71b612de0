"""The routing core: files here are pure, folders here touch the world."""
