"""Face verification at several image resolutions: protocol, scores, tables and pictures."""
