"""What one run or several have come to, as one HTML page that needs nothing else."""
