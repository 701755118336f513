"""The paper's table 4 and figures 2 to 4 on one's own data: a run for each cell, and what they found, drawn."""
