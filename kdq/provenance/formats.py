"""The formats of the safetensors files, as their headers name them; the number changes with what a reader must know."""

ARCHIVE = "kdq-archive/1"
DATA = "kdq-data/1"
MODEL = "kdq-model/1"
PREDICTIONS = "kdq-predictions/1"
VIEWS = "kdq-teacher-views/1"
