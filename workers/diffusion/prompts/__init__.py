"""A prompt's text → what steers the UNet, as AUTOMATIC1111's web UI reads prompts.

attention     (word:1.2), (word), [word], BREAK → passages with their weights
inversions    files of textual inversion → vectors that stand for a word
chunks        passages → chunks of 75 tokens
encoder       chunks → Conditioning, with clip skip, for one text encoder or Stable Diffusion XL's two
remembered    the conditionings of the last prompts
"""
