

def test_the_mean_of_a_large_set_is_that_of_images_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_module, "MEAN_IMAGES", 4)
    seen: list[int] = []

    def values(_backbone: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.extend(images[:, 0, 0, 0].tolist())
        return images[:, 0, 0, :1].astype(np.float32)

    monkeypatch.setattr(embed_module, "embed", values)
    pixels = np.arange(10, dtype=np.uint8)[:, None, None, None]
    sets = [ImageSet("a", pixels[:6], np.zeros(6, np.int64), ("a",)), ImageSet("b", pixels[6:], np.zeros(4, np.int64), ("b",))]
    assert mean_embedding(nn.Identity(), sets).tolist() == [5.0]
    assert seen == [0, 2, 4, 6, 8] or seen == [0, 2, 4, 6, 8]
