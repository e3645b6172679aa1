from models.identity import event_id, id64


def test_event_ids_are_pinned() -> None:
    # Consumers recognise duplicates by them, across releases: a change here is a change of the contract.
    assert event_id("c1", "loyalty", 1, None, "gold", 1_772_359_200_000, "v1") == "8a10377e59d057af9cbbbd3819d0d986"
    assert event_id("c1", "birthday-offer", "2026") == "4144b1e63bc7fdba107429da43110a89"
    assert event_id("顾客", "s", 2) == "924f6a1d5a67a1bd546c5a299b23bf8a"


def test_numbers_of_ids_are_pinned() -> None:
    # State rows hold them: a change here makes every stored order unknown.
    assert id64("o1") == 10_910_770_614_254_850_996
    assert id64("") == 13_020_603_013_274_838_756
    assert id64("订单-1") == 12_724_731_746_915_646_266


def test_parts_do_not_run_into_each_other() -> None:
    assert event_id("ab", "c") != event_id("a", "bc")
    assert event_id("a", None) != event_id("a")


def test_ids_have_their_width() -> None:
    assert len(event_id("c1")) == 32
    assert all(0 <= id64(f"o{number}") < 2**64 for number in range(100))
