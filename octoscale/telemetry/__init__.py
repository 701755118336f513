"""What a run shows of itself: metrics, progress, log."""
