"""The world of ranks, and the engines that train in it."""
