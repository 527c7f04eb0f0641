"""The configuration of Prometheus and Grafana, made from Python.

    alerts.py, recording.py ──> deploy/prometheus/*.yml
    dashboards.py ──panels.py──> deploy/grafana/dashboards/*.json

`python -m tools.monitoring` writes the files; a test and `make check` compare them.
"""
