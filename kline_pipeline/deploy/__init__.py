"""Files that a deployment needs as files, such as dagster.yaml, and the program that makes the dashboards of them."""
