"""The study that results are compared with: the configuration of a command line, and the code beside it."""

import argparse
from pathlib import Path

import kdq
from kdq.provenance.fingerprint import Fingerprints
from kdq.study.config import merged, read_study
from kdq.study.files import config_files
from kdq.study.products import Products

HOME = Path(kdq.__file__).resolve().parent.parent


def add_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configfile", nargs="+", default=[], metavar="FILE", help="the study's files, as for snakemake"
    )


def products(configfiles: list[str]) -> Products:
    """Return the products of the study of these files, else of ``config.yaml``; raise UserError if one is wrong."""
    files = config_files(configfiles, HOME)
    return Products(read_study(merged(files), HOME / "kdq", files), Fingerprints(HOME))
