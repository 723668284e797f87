"""How dates are written where a page does not say it itself: lists and forms of the back office."""
