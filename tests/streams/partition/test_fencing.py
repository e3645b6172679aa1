from streams.partition.fencing import NOBODY, Claim, Fence, claim_of

ANN, BOB = b"ann", b"bob"
FIRST, SECOND = Claim(1, b"owner-01"), Claim(2, b"owner-02")


def test_a_claim_survives_its_header() -> None:
    assert claim_of(SECOND.headers) == SECOND
    assert claim_of([("something", b"else")]) == NOBODY


def test_rows_of_the_holder_and_of_those_before_it_count() -> None:
    fence = Fence()
    assert all(fence.admits(ANN, headers) for headers in ([], FIRST.headers, FIRST.headers, SECOND.headers))
    assert (fence.holder, fence.stale) == (SECOND, set())


def test_what_a_replaced_owner_writes_late_does_not_count_until_it_is_written_over() -> None:
    fence = Fence()
    fence.admits(ANN, FIRST.headers)
    fence.admits(b"claim", SECOND.headers)
    assert not fence.admits(ANN, FIRST.headers)
    assert not fence.admits(BOB, [])
    assert fence.stale == {ANN, BOB}
    assert fence.admits(ANN, SECOND.headers)
    assert fence.stale == {BOB}


def test_of_two_claims_with_one_epoch_the_first_in_the_log_holds() -> None:
    fence, other = Fence(), Claim(1, b"owner-03")
    assert fence.admits(b"claim", FIRST.headers)
    assert not fence.admits(b"claim", other.headers)
    assert fence.holder == FIRST
    assert fence.next_claim(other.owner) == Claim(2, other.owner)
