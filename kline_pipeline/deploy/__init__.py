"""Files that a deployment needs as files, such as dagster.yaml; no code lives here."""
