import os

from sqlhttp_gateway.cache.stamps import Stamps


def test_what_began_before_a_stamp_is_good_no_more_and_what_began_after_it_is() -> None:
    stamps = Stamps()
    users, orders = stamps.bucket("relation", "users"), stamps.bucket("relation", "orders")
    began = stamps.now()
    stamps.stamp([users])
    assert not stamps.is_good((orders, users), began)
    assert stamps.is_good((orders,), began)
    later = stamps.last(users) + 1
    assert stamps.is_good((orders, users), later)


def test_query_that_began_in_the_very_nanosecond_of_a_stamp_does_not_count() -> None:
    stamps = Stamps()
    stamps.stamp([3])
    assert not stamps.is_good((3,), stamps.last(3))


def test_another_process_sees_a_stamp_at_once() -> None:
    stamps = Stamps()
    began = stamps.now()
    pid = os.fork()
    if pid == 0:
        stamps.stamp([7])
        os._exit(0)
    os.waitpid(pid, 0)
    assert not stamps.is_good((7,), began)


def test_place_is_kept_until_its_last_entry_is_over() -> None:
    stamps = Stamps()
    place = ("default", "main")
    bucket = stamps.bucket_of_place(place)
    assert not stamps.is_kept(bucket)
    stamps.keep(place, stamps.now() + 10**12)
    stamps.keep(place, stamps.now() + 10)  # a shorter one takes nothing back
    assert stamps.is_kept(bucket)
    assert not stamps.is_kept(stamps.bucket_of_place(("default", "other")))


def test_names_are_told_apart_where_they_are_cut() -> None:
    stamps = Stamps()
    assert stamps.bucket("a", "bc") != stamps.bucket("ab", "c")
