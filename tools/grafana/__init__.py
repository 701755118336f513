"""What the Grafana dashboards show: one module for each."""
