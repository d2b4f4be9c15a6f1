"""Which checkpoints are installed and what they are, without torch: by the headers of their files alone.

header      the tensors that a .safetensors file holds
kinds       tensor names and shapes → what kind of weights they are
identify    a file or folder → Checkpoint, usable or with the reason why not
catalogue   the folders of checkpoints, by name
"""
