"""The study that results are held against: the configuration that a command names, and the code beside it."""

import argparse
from pathlib import Path

import kdq
from kdq.provenance.fingerprint import Fingerprints
from kdq.provenance.verify.workflow import Workflow
from kdq.study.config import merged, read_study

HOME = Path(kdq.__file__).resolve().parent.parent


def add_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configfile", nargs="+", default=[], metavar="FILE", help="the study's files, as snakemake is given them"
    )


def workflow(configfiles: list[str]) -> Workflow:
    """The workflow for ``config.yaml`` and the files over it; raises UserError where one is wrong."""
    files = [HOME / "config.yaml", *configfiles]
    return Workflow(read_study(merged(files), HOME / "kdq", files), Fingerprints(HOME))
