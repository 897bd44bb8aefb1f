"""Download files: whole and verified, or not at all."""

import hashlib
import os
import urllib.request
from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.files import atomic

TIMEOUT_SECONDS = 60
CHUNK_BYTES = 1 << 18
MOST_BYTES = 1 << 30  # larger than any data set's archive


def hub_file(repository: str, revision: str, name: str, **options) -> Path:
    """Return the path of a file of a hub's repository at ``revision`` (a commit); download it if it is not cached.

    ``options`` are those of ``hf_hub_download``. Raise what the hub's client raises.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        endpoint = os.environ.get("HF_ENDPOINT")
        return Path(hf_hub_download(repository, name, revision=revision, endpoint=endpoint, **options))
    except LocalEntryNotFoundError as error:
        # that there is no cached copy; its cause tells why none could be fetched
        raise error.__cause__ or error from None


def newest_commit(repository: str, name: str) -> str:
    """Return the commit of a repository's main branch with the file ``name``: as cached, else as the hub says.

    Raise what the hub's client raises.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, name, revision="main")
    if isinstance(cached, str):
        return Path(cached).relative_to(Path(cached).parents[name.count("/") + 1]).parts[0]
    return get_hf_file_metadata(hf_hub_url(repository, name, endpoint=os.environ.get("HF_ENDPOINT"))).commit_hash


def file(url: str, path: Path, expected_md5: str) -> None:
    """Download ``url`` to ``path`` with a progress bar on standard error; raise UserError if its MD5 is another."""
    from tqdm import tqdm

    response = urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS)
    with response, atomic(path) as aside, open(aside, "wb") as out:
        size_bytes = int(response.headers.get("Content-Length") or 0)
        with tqdm(desc=Path(path).name, total=size_bytes or None, unit="B", unit_scale=True, disable=None) as bar:
            while chunk := response.read(CHUNK_BYTES):
                out.write(chunk)
                bar.update(len(chunk))
                if out.tell() > MOST_BYTES:
                    raise UserError(f"more than {MOST_BYTES:,} bytes")
        out.flush()
        received_bytes = os.path.getsize(aside)
        if size_bytes and received_bytes != size_bytes:
            raise UserError(f"broke off after {received_bytes} of {size_bytes} bytes")
        if (found := md5(aside)) != expected_md5:
            raise UserError(f"MD5 {found}, expected {expected_md5}")


def md5(path) -> str:
    """Return the MD5 of a file, 32 hexadecimal digits: the published checksum of older data sets."""
    with open(path, "rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
