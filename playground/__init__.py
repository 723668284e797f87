"""What customers do in the browser: landing, overview, chat with its threads. The top of the house."""
