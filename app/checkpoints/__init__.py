"""Which checkpoints are installed and what they are, without torch: by the headers of their files alone.

pickles     pickles, read without being run
torch_files the tensors that a file of PyTorch's holds
header      the tensors that a file holds, .safetensors or PyTorch's (metadata: what else it says)
kinds       tensor names and shapes → what kind of weights they are
families    … of a checkpoint → its family (prediction: what Stable Diffusion 2's UNet predicts)
identify    a file or folder → Checkpoint, usable or with the reason why not
cards       NAME.toml → what its owner says of it
adapters    what goes with checkpoints: LoRAs, VAEs, … (bases: for which family)
catalogue   the folders of checkpoints, by name
hashes      the SHA-256 of files, remembered (digests: reckoned in the background, for who only shows them)
anatomy     how many parameters a checkpoint has, and how exact
conversion  files of PyTorch's → .safetensors files, once each
sources     what `atelier checkpoints pull` is given → where the file is
download    a file from there, whole or not at all
"""
