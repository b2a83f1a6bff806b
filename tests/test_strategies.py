"""The random policies of other tests are what a user could have written."""

from hypothesis import given

from tests.strategies import TODAY, documents, policies
from zt.check import check
from zt.load import assemble
from zt.model import Policy
from zt.position import Severity


@given(policies())
def test_random_policies_are_valid(policy: Policy) -> None:
    assert not [found for found in check(policy, TODAY) if found.severity is Severity.ERROR]


@given(policies())
def test_a_policy_is_put_together_again_from_its_documents(policy: Policy) -> None:
    assert assemble(documents(policy)) == policy
