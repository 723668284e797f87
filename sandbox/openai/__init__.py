"""A model provider in the OpenAI chat format: deterministic text, usage, faults by model name."""
