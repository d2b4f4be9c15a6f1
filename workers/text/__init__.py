"""Language models: what is asked of one (`request`), and those that can be asked (`engine`). Knows no store and no run."""
