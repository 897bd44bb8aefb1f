"""The formats of the files; the number changes with what a reader must know.

A safetensors file and a CSV file with a header name theirs there; the other files are known by their names.
"""

ARCHIVE = "kdq-archive/1"
DATA = "kdq-data/1"
MODEL = "kdq-model/1"
PREDICTIONS = "kdq-predictions/1"
SENSITIVITY = "kdq-sensitivity/1"
VIEWS = "kdq-teacher-views/1"

CODE = "code"  # JSON: the digest of each file behind a fingerprint
HISTORY = "history"  # CSV without a header: its model holds its digest
JSON = "json"  # sealed, with the key `provenance`
METRICS = "metrics"  # JSON: the key `evaluation` in place of `provenance`, which is the model's
RECORD = "record"  # JSON beside tables and figures, with their digests
PLAIN = ""  # a table or a figure: its record holds its digest
