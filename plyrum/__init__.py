"""The frame: settings, wiring and the primitives that every app may use. It imports no app."""
