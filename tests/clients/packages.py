"""npm's packages for the tests, as `tests/clients/package.json` names them; `make test` installs them."""

from __future__ import annotations

from tests.servers import ROOT

NPM = ROOT / "build" / "clients-js"
HAS_NPM = (NPM / "node_modules").is_dir()
WITHOUT = f"needs the npm packages of tests/clients/package.json in {NPM.relative_to(ROOT)}"
