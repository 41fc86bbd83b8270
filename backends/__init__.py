"""Effects: one adapter a backend, module sources and environments, and the supervisor."""
