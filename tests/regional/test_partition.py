"""The partition: every fingerprint in one bucket, the same alone and among others, and kept as it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regional.partition import Partition
from registry.errors import Corrupt

CENTRES = Partition(4, np.array([[0, 0], [2, 0], [0, 2], [2, 0]], dtype=np.float32))


def test_a_network_begins_with_one_bucket():
    whole = Partition.whole(3)
    assert (whole.version, len(whole)) == (1, 1)
    assert whole.bucket(np.array([9, -9, 1e9], dtype=np.float32)) == 0


def test_between_equally_near_centres_the_lowest():
    assert CENTRES.bucket(np.array([1, 0], dtype=np.float32)) == 0
    assert CENTRES.bucket(np.array([5, 0], dtype=np.float32)) == 1
    assert CENTRES.bucket(np.array([0, 5], dtype=np.float32)) == 2
    assert CENTRES.bucket(np.zeros(0, dtype=np.float32)) == 0


@given(st.lists(st.tuples(*[st.floats(-9, 9, width=32)] * 2), min_size=1, max_size=40))
def test_alone_and_among_others_alike(points):
    many = np.array(points, dtype=np.float32)
    assert CENTRES.buckets(many).tolist() == [CENTRES.bucket(each) for each in many]


def test_it_is_kept_as_it_is():
    again = Partition.from_bytes(CENTRES.to_bytes(), 2)
    assert again.version == 4
    assert again.centres.tolist() == CENTRES.centres.tolist()


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x83\x00\x02\x48" + bytes(8), CENTRES.to_bytes()[:-1]])
def test_what_is_no_partition_is_named(data):
    with pytest.raises(Corrupt, match="partition"):
        Partition.from_bytes(data, 2)
    with pytest.raises(Corrupt, match="d=2; wanted d=3"):
        Partition.from_bytes(CENTRES.to_bytes(), 3)
