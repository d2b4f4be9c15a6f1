"""One checkpoint's weights: in files, in memory, at work.

pipeline      its modules at work: words → conditioning, pixels ↔ latents (tiling: large ones; speed: what a GPU can do)
residency     which checkpoints are in memory, and who makes room (sharing: equal weights once; files_ahead)
loading       files → modules (parts: where each lies; reading, tensors, weight_files: the files; names, open_clip:
              original key names; tokenizer: words → ids; configs: a folder for each family)
export        modules → one file with the original names
"""
