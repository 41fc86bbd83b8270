"""What pods send and receive a second, by what they have sent and received so far."""

from backends.kubernetes.usage import Traffic

RECEIVED = "network_received_bytes_per_second"


def test_traffic_is_told_from_the_second_look_on_and_never_backwards() -> None:
    traffic = Traffic()
    assert traffic.rates("job-0", {"rxBytes": 100}, 10.0) == {}
    assert traffic.rates("job-0", {"rxBytes": 300}, 12.0) == {RECEIVED: 100.0}
    assert traffic.rates("job-0", {"rxBytes": 50}, 14.0) == {RECEIVED: 0.0}


def test_a_pod_that_runs_no_more_is_forgotten() -> None:
    traffic = Traffic()
    for name in ("job-0", "other-0"):
        traffic.rates(name, {"rxBytes": 100}, 10.0)
    traffic.keep({"other-0"})
    assert traffic.rates("job-0", {"rxBytes": 900}, 12.0) == {}
    assert traffic.rates("other-0", {"rxBytes": 300}, 12.0) == {RECEIVED: 100.0}
