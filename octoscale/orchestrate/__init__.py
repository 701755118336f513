"""Runs the train function somewhere else. The only folder that imports ray."""
