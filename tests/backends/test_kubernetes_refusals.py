"""What refusals of a cluster make of a launch: a wait, an end with the cluster's words, or a backend that is away."""

import pytest

from backends import base
from backends.kubernetes.cluster import Refused
from backends.kubernetes.refusals import ACCOUNT_SECONDS, Refusals

ACCOUNT = 'pods "job-0" is forbidden: error looking up service account new/default: serviceaccount "default" not found'


def exceeded(requested: str, used: str, limited: str) -> Refused:
    """As the API server writes it; it names only what is exceeded."""
    told = f"exceeded quota: few, requested: {requested}, used: {used}, limited: {limited}"
    return Refused(403, f'pods "job-0" is forbidden: {told}')


@pytest.mark.parametrize(
    ("requested", "used", "limited", "workers"),
    [
        ("pods=1", "pods=2", "pods=2", 1),
        ("pods=1", "pods=1", "pods=2", 2),
        ("limits.memory=1Gi,pods=1", "limits.memory=1Gi,pods=4", "limits.memory=1024Mi,pods=4", 1),
        ("requests.cpu=1500m", "requests.cpu=1", "requests.cpu=2", 1),
        ("requests.odd=a lot", "requests.odd=0", "requests.odd=1", 1),
    ],
)
def test_a_quota_that_is_used_up_is_waited_for(requested: str, used: str, limited: str, workers: int) -> None:
    found = Refusals().judge("job", exceeded(requested, used, limited), workers=workers)
    assert isinstance(found, base.Crowded)
    assert "exceeded quota: few" in str(found)


@pytest.mark.parametrize(
    ("requested", "used", "limited", "workers", "words"),
    [
        ("pods=1", "pods=0", "pods=0", 1, "it asks for 1 of pods, and the quota few has 0 in all"),
        ("pods=1", "pods=1", "pods=1", 2, "1 of pods for each of 2 workers, and the quota few has 1 in all"),
        ("pods=1,limits.memory=2Gi", "pods=0,limits.memory=0", "pods=9,limits.memory=1Gi", 1, "2Gi of limits.memory"),
        ("requests.cpu=600m", "requests.cpu=0", "requests.cpu=1", 2, "600m of requests.cpu for each of 2"),
    ],
)  # fmt: skip
def test_what_a_quota_never_has_ends_the_job_with_the_numbers(
    requested: str, used: str, limited: str, workers: int, words: str
) -> None:
    found = Refusals().judge("job", exceeded(requested, used, limited), workers=workers)
    assert isinstance(found, base.LaunchRejected)
    assert words in found.reason
    assert f"limited: {limited}" in found.reason


def test_a_service_account_that_is_still_to_come_is_waited_for_a_while() -> None:
    now = 100.0
    refusals = Refusals(lambda: now)
    assert isinstance(refusals.judge("job", Refused(403, ACCOUNT)), base.Crowded)
    now += ACCOUNT_SECONDS - 1
    assert isinstance(refusals.judge("job", Refused(403, ACCOUNT)), base.Crowded)
    assert isinstance(refusals.judge("other", Refused(403, ACCOUNT)), base.Crowded)
    now += 1
    late = refusals.judge("job", Refused(403, ACCOUNT))
    assert isinstance(late, base.LaunchRejected)
    assert 'serviceaccount "default" not found' in late.reason
    assert isinstance(refusals.judge("other", Refused(403, ACCOUNT)), base.Crowded), "each has its own time"
    refusals.forget("job")
    assert isinstance(refusals.judge("job", Refused(403, ACCOUNT)), base.Crowded)


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (404, 'namespaces "gone" not found', base.BackendUnavailable),
        (403, 'pods is forbidden: User "u" cannot create resource "pods"', base.BackendUnavailable),
        (403, "failed quota: few: must specify limits.memory", base.LaunchRejected),
        (403, "status unknown for quota: few, resources: pods", base.Crowded),
        (403, "no PriorityClass with name high was found", base.LaunchRejected),
        (422, "denied", base.LaunchRejected),
    ],
)
def test_other_refusals_are_whose_they_are(status: int, words: str, kind: type[Exception]) -> None:
    found = Refusals().judge("job", Refused(status, words))
    assert type(found) is kind
    assert words in str(found)
