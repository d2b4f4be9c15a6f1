"""Which checkpoints are installed and what they are, without torch: by the headers of their files alone.

pickles     pickles, read without being run
torch_files the tensors that a file of PyTorch's holds
header      the tensors that a file holds, .safetensors or PyTorch's
kinds       tensor names and shapes → what kind of weights they are
identify    a file or folder → Checkpoint, usable or with the reason why not
catalogue   the folders of checkpoints, by name
hashes      the SHA-256 of files, remembered
conversion  files of PyTorch's → .safetensors files, once each
sources     what `atelier checkpoints pull` is given → where the file is
download    a file from there, whole or not at all
"""
