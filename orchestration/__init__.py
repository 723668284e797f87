"""Work by models: catalogue, routing, runs, frames, providers. Spends money only through billing."""
