"""A hub on the loopback interface, as its client sees it: files by repository and commit, whole or in part."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TIMM_REPOSITORY = "timm/test_resnet.r160_in1k"  # timm's smallest network
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
PATH = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.server.hub.asked.append(self.path)
        self.answer(True)

    def answer(self, with_body):
        hub = self.server.hub
        asked = PATH.fullmatch(self.path)
        revisions = {revision for _, revision, _ in hub.files}
        asked = asked and asked.groupdict()
        if asked and asked["revision"] == "main":
            asked["revision"] = hub.head
        content = hub.files.get(tuple(asked.values())) if asked else None
        if content is None:
            self.send_response(404)
            self.send_header(
                "X-Error-Code", "EntryNotFound" if asked and asked["revision"] in revisions else "RevisionNotFound"
            )
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", asked["revision"])
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if with_body and asked["name"] == hub.dies_within:
            hub.stop(wait=False)  # first, so that the client finds nobody to go on with
            content = content[: len(content) // 2]
        if with_body:
            self.wfile.write(content[start:])

    def log_message(self, *arguments):
        pass


class Hub:
    """The server; ``files`` maps (repository, revision, name) to bytes, ``asked`` has the paths of all downloads.

    The branch main of each repository is at the commit ``head``.
    """

    def __init__(self):
        self.files, self.asked, self.dies_within, self.head = {}, [], None, COMMIT
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.hub, self.port = self, self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self, wait=True):
        self.server.shutdown()
        if not wait:
            self.server.daemon_threads = self.server.block_on_close = False
            self.server._threads = []
        self.server.server_close()

    def offer(self, folder, repository="owner/name", revision=COMMIT):
        """Serve the files of a folder."""
        for path in folder.iterdir():
            self.files[repository, revision, path.name] = path.read_bytes()
