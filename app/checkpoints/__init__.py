"""Which checkpoints are installed and what they are, without torch: by the headers of their files alone.

header      the tensors that a .safetensors file holds (metadata: what else it says)
kinds       tensor names and shapes → what kind of weights they are
families    … of a checkpoint → its family (prediction: what Stable Diffusion 2's UNet predicts)
identify    a file or folder → Checkpoint, usable or with the reason why not
cards       NAME.toml → what its owner says of it
adapters    what goes with checkpoints: LoRAs, VAEs, … (bases: for which family)
catalogue   the folders of checkpoints, by name
"""
