"""Language models: what is asked of one (`request`), and those that can be asked (`engine`). No store, no runs."""
