"""The life of the service's processes: begun, supervised, replaced, ended. Not here: what they do (app)."""
