"""Workflow documents and the engine's brain. Pure: values in, values out.

    text ──document──▶ Document ──graph──▶ Graph ──plan──▶ what to start ──execute──▶ Completed | WorkerCall

A `Graph` is built once for each published version and shared by all its runs: whatever can be worked out ahead
(orders, edges, templates, selectors) is worked out there.
"""
