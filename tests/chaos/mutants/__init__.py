"""Ways to break Atelier that the chaos tests must notice: `python -m tests.chaos.mutants`.

Each folder is put before everything else on the path of a cluster's processes, where Python runs its sitecustomize.
"""
