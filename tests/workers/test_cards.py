"""A model card overrides what is guessed of its checkpoint, and names what its file lacks."""

from __future__ import annotations

import pytest

from app.checkpoints.catalogue import Catalogue, open_catalogue
from app.errors import CheckpointUnavailable, SettingsInvalid
from app.settings import load_settings
from tests.workers.headers import diffusers_folder, sd, sdxl, without, write

VAE = {"encoder.conv_in.weight": [128, 3, 3, 3], "decoder.conv_in.weight": [512, 4, 3, 3]}
CARD = """
prediction = "v_prediction"
sampler = "dpmpp_2m_karras"
width = 640
height = 960
guidance_scale = 5
steps = 24
clip_skip = 2
vae = "soft"
licence = "CreativeML Open RAIL-M"
trigger_words = ["modern disney style"]
description = "Cartoons."
pinned = true
"""


def test_a_card_says_what_its_file_cannot(tmp_path):
    write(tmp_path / "disney.safetensors", sd())
    vae = write(tmp_path / "vae/soft.safetensors", VAE)
    (tmp_path / "disney.toml").write_text(CARD)
    found = Catalogue([tmp_path]).get("disney")
    assert (found.prediction, found.sampler, found.steps, found.clip_skip) == ("v_prediction", "dpmpp_2m_karras", 24, 2)
    assert (found.width, found.height, found.side, found.guidance_scale) == (640, 960, 784, 5.0)
    assert (found.vae, found.vae_path, found.pinned) == ("soft", str(vae), True)
    assert (found.licence, found.trigger_words) == ("CreativeML Open RAIL-M", ("modern disney style",))


def test_a_folder_has_its_card_beside_it_and_a_card_is_no_checkpoint(tmp_path):
    diffusers_folder(tmp_path / "mine")
    (tmp_path / "mine.toml").write_text('size = 640\nlicense = "MIT"')
    [found] = Catalogue([tmp_path]).list()
    assert (found.side, found.width, found.licence, found.guidance_scale) == (640, 640, "MIT", 7.5)


def test_a_card_may_begin_as_some_editors_begin_a_text(tmp_path):
    write(tmp_path / "a.safetensors", sd())
    (tmp_path / "a.toml").write_text("steps = 12\r\n", encoding="utf-8-sig")
    assert Catalogue([tmp_path]).get("a").steps == 12


def test_a_card_that_changes_counts_at_once(tmp_path):
    write(tmp_path / "a.safetensors", sd())
    catalogue, card = Catalogue([tmp_path]), tmp_path / "a.toml"
    assert catalogue.get("a").steps == 0
    for steps in (20, 30, 100):
        card.write_text(f"steps = {steps}")
        assert catalogue.get("a").steps == steps
    card.unlink()
    assert catalogue.get("a").steps == 0


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ("steps = ", r"a\.toml is wrong: "),
        ('steps = "many"', r"a\.toml is wrong: steps: Expected `int \| null`, got `str`"),
        ("clip_skip = 0", r"a\.toml is wrong: clip_skip: Expected `int` >= 1"),
        ('smapler = "ddim"', r"a\.toml is wrong: there is no field `smapler`. There are: prediction, sampler, "),
        ("width = 512", "width and height go together"),
        ('vae = "nowhere"', r"There is no VAE 'nowhere'. None is installed"),
        ('licence = "caf\udce9"', r"a\.toml is wrong: it is not in UTF-8 \(byte 14\)"),
        ("steps = " + "[" * 20_000, r"a\.toml is wrong: its brackets nest too deeply"),
        ("#" * 70_000, r"a\.toml is wrong: a card has 65,536 bytes at most"),
        ("guidance_scale = nan", r"a\.toml is wrong: guidance_scale"),
        ("guidance_scale = 31", r"a\.toml is wrong: guidance_scale: Expected `float` <= 30"),
        ("steps = 151", r"a\.toml is wrong: steps: Expected `int` <= 150"),
        ("size = 4096", r"a\.toml is wrong: size: Expected `int` <= 2048"),
    ],
)
def test_a_wrong_card_is_no_guess(card, says, tmp_path):
    write(tmp_path / "a.safetensors", sd())
    (tmp_path / "a.toml").write_text(card, errors="surrogateescape")
    with pytest.raises(CheckpointUnavailable, match=says):
        Catalogue([tmp_path]).get("a")


def test_a_file_without_a_vae_is_usable_once_one_is_named(tmp_path):
    write(tmp_path / "a.safetensors", without("first_stage_model"))
    with pytest.raises(CheckpointUnavailable, match=r"has no VAE in it\..*`vae` in a\.toml, or ATELIER_DEFAULT_VAE"):
        Catalogue([tmp_path]).get("a")
    one, two = (str(write(tmp_path / f"vae/{name}.safetensors", VAE)) for name in ("one", "two"))
    catalogue = Catalogue([tmp_path], default_vae={"sd1": "one", "sdxl": "two"})
    assert (catalogue.get("a").vae, catalogue.get("a").vae_path) == ("one", one)
    (tmp_path / "a.toml").write_text('vae = "two"')
    assert catalogue.get("a").vae_path == two
    whole = str(write(tmp_path / "whole.safetensors", sd()))
    (tmp_path / "a.toml").write_text('vae = "whole"')
    assert catalogue.get("a").vae_path == whole


def test_the_default_vae_is_for_files_without_one(tmp_path):
    write(tmp_path / "whole.safetensors", sd())
    write(tmp_path / "lesser.safetensors", without("first_stage_model", sd(channels=9)))
    write(tmp_path / "vae/one.safetensors", VAE)
    catalogue = Catalogue([tmp_path], default_vae={"sd1": "one"})
    assert [catalogue.get(name).vae for name in ("whole", "lesser")] == ["", "one"]


def test_a_file_without_text_encoders_takes_another_checkpoints(tmp_path):
    write(tmp_path / "lesser.safetensors", without("conditioner", sdxl()))
    with pytest.raises(CheckpointUnavailable, match=r"has no text encoder in it\..*`text_encoder` in lesser\.toml"):
        Catalogue([tmp_path]).get("lesser")
    whole = write(tmp_path / "whole.safetensors", sdxl())
    (tmp_path / "lesser.toml").write_text('text_encoder = "whole"')
    assert Catalogue([tmp_path]).get("lesser").text_encoder_path == str(whole)


def test_a_file_without_a_text_encoder_takes_one_of_the_folder_for_them(tmp_path):
    write(tmp_path / "lesser.safetensors", without("cond_stage"))
    (tmp_path / "lesser.toml").write_text('text_encoder = "clip_l"')
    clip = write(
        tmp_path / "text_encoders/clip_l.safetensors", {"text_model.embeddings.token_embedding.weight": [9, 8]}
    )
    assert Catalogue([tmp_path]).get("lesser").text_encoder_path == str(clip)


def test_an_alias_stands_for_a_checkpoint_that_no_file_is_called(tmp_path):
    write(tmp_path / "dreamshaper_8.safetensors", sd())
    catalogue = Catalogue([tmp_path], aliases={"dreams": "dreamshaper_8", "gone": "nowhere"})
    assert catalogue.get("dreams").name == "dreamshaper_8"
    with pytest.raises(CheckpointUnavailable, match=r"no checkpoint 'nowhere' \('gone' stands for it\)"):
        catalogue.get("gone")
    write(tmp_path / "dreams.safetensors", sd())
    assert catalogue.get("dreams").name == "dreams"


def test_cards_and_settings_pin_checkpoints_together(tmp_path):
    for name in "abc":
        write(tmp_path / f"{name}.safetensors", sd())
    (tmp_path / "b.toml").write_text("pinned = true")
    catalogue = Catalogue([tmp_path], aliases={"see": "c"})
    assert catalogue.pinned() == ("b",)
    assert catalogue.pinned(["see", "b", "gone"]) == ("c", "b", "gone")


def test_aliases_and_vaes_are_settings(tmp_path, monkeypatch):
    write(tmp_path / "a.safetensors", without("first_stage_model"))
    write(tmp_path / "vae/soft.safetensors", VAE)
    monkeypatch.setenv("ATELIER_CHECKPOINT_ALIASES", '{"b": "a"}')
    monkeypatch.setenv("ATELIER_DEFAULT_VAE", '{"sd1": "soft"}')
    assert open_catalogue(load_settings(checkpoints_dir=tmp_path)).get("b").vae == "soft"
    monkeypatch.setenv("ATELIER_DEFAULT_VAE", "soft")
    with pytest.raises(SettingsInvalid, match="ATELIER_DEFAULT_VAE: must be a JSON object"):
        load_settings(checkpoints_dir=tmp_path)
