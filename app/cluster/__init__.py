"""Atelier's production form on one machine: its servers and its own processes, started, watched and stopped."""
