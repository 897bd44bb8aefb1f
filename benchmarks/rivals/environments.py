"""Environments of the rivals and of old runtimes: one each, made from the package registry when first asked for."""

import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "nncf": ("nncf==3.4.0",),
    "brevitas": ("brevitas==0.13.4", "onnxoptimizer==0.4.2"),
    "torchao": ("torchao==0.18.0",),
    "mct": ("model-compression-toolkit==2.6.1",),
}
OLD_RUNTIMES = {
    "onnxruntime-1.17.3": ("onnxruntime==1.17.3", "numpy<2"),
    "onnxruntime-1.20.1": ("onnxruntime==1.20.1", "numpy<2.3"),
}
SECONDS = 900  # for an installation


def python_of(name: str, folder: Path) -> str | None:
    """Return the Python of the environment ``name`` below ``folder``, made if it is missing.

    A rival's environment also sees this one's packages, an old runtime's does not. None, with a line that says why, if
    it can't be installed.
    """
    home = (folder / name).resolve()
    python, ready = home / "bin/python", home / "ready"
    if not ready.exists():
        try:
            _call([sys.executable, "-m", "venv", str(home)])
            if name in PACKAGES:
                seen = [entry for entry in sys.path if entry.endswith("site-packages")]
                site = next(home.glob("lib/python*/site-packages"))
                (site / "kdq.pth").write_text("\n".join(seen) + "\n", encoding="utf-8")
            _call([str(python), "-m", "pip", "install", "--quiet", *(PACKAGES | OLD_RUNTIMES)[name]])
        except (subprocess.SubprocessError, OSError) as error:
            reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
            print(f"{name}: left out, not installed ({reason[:200]})", file=sys.stderr)
            return None
        ready.touch()
    return str(python)


def _call(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS)
