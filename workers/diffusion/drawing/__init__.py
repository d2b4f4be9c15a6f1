"""One request, from its prompt to its pixels.

painting      one request at work: its prompts encoded, its drawings through their passes, its pictures decoded
passes        one pass: how its drawings begin (beginnings: noise, or a picture under some) and what holds them
denoiser      one drawing's way, and a UNet call for many
schedulers    sampler names as people know them → diffusers' schedulers
conditioning  what a prompt becomes before a UNet can follow it
controls      ControlNets in a call that is shared with others
given         the pictures that come with a request
"""
