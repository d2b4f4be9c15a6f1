"""Where code of workflows runs: a child of its own for each call, which the kernel lets do little but compute.

`sandbox` is the worker's side. Everything else runs in the zygote (`zygote`) or in its children, which hold Python's
library and a JavaScript engine, and nothing else: no settings, no environment, no package. `docs/security.md` tells
what holds them.
"""
