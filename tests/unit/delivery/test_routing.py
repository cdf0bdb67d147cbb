"""Which accounts a message may go through, in which order."""

from __future__ import annotations

import math
import random
from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.delivery.sending import email, sms

from postroom import Channel, Config, Postroom, ProviderNotFound
from postroom.delivery.accounts import Target
from postroom.delivery.routing import Router, accounts_by_rule, country_of, names_chosen
from postroom.messages import Message, Sms
from postroom.registry.registry import Registry

GB, US, IE, CA = "+442079460958", "+12025550123", "+353861234567", "+14165550123"


def router_of(rng: random.Random | None = None, **values: Any) -> Router:
    return Router(Config.model_validate(values), Registry(), rng=rng)


def targets(router: Router, message: Message) -> list[Target]:
    return [target for planned in router.plan(message) for target in planned.targets]


def planned(router: Router, message: Message) -> list[str]:
    return [target.name for target in targets(router, message)]


MEMORY = {"provider": "memory"}
ABC = dict.fromkeys("abc", MEMORY)


class TestAccountsByRule:
    """What the limits of countries are looked up by, whatever account a message names."""

    def accounts(self, *use: str) -> list[tuple[str, ...]]:
        countries = ("GB", "US", "IE", "CA")
        config = Config.model_validate(
            {
                "accounts": {"a": MEMORY, "b": {"provider": "console"}, "c": {"provider": "console"}},
                "routes": {"r": {"via": ["b", "a"]}},
                "rules": [{"country": country, "use": name} for country, name in zip(countries, use, strict=False)],
            }
        )
        return accounts_by_rule(config, Sms(to=[GB, US, IE, CA], body="x", provider="a"))

    def test_are_those_of_a_route_an_account_or_a_provider(self) -> None:
        assert self.accounts("r", "b", "console", "memory") == [("b", "a"), ("b",), ("b", "c"), ("a",)]

    def test_are_none_where_no_rule_fits(self) -> None:
        assert self.accounts("c") == [("c",), (), (), ()]

    def test_are_the_provider_itself_where_it_has_no_account(self) -> None:
        assert self.accounts("file")[0] == ("file",)

    def test_an_account_goes_before_a_provider_of_its_name(self) -> None:
        accounts = {"console": MEMORY, "other": {"provider": "console"}}
        config = Config.model_validate({"accounts": accounts, "rules": [{"use": "console"}]})
        assert accounts_by_rule(config, sms()) == [("console",)]


class TestNamesChosen:
    """What a key of the gateway that is limited to accounts is held to."""

    def chosen(self, message: Message, **parts: Any) -> frozenset[str]:
        return names_chosen(Config.model_validate({"accounts": ABC, **parts}), message)

    def test_a_message_that_names_its_provider_chooses_it_alone(self) -> None:
        parts: dict[str, Any] = {"rules": [{"use": "a"}], "defaults": {"sms": "b"}}
        assert self.chosen(sms(provider="c"), **parts) == frozenset({"c"})

    def test_an_sms_chooses_what_the_rules_say_of_each_recipient_and_else_the_default(self) -> None:
        parts: dict[str, Any] = {"rules": [{"country": "GB", "use": "a"}], "defaults": {"sms": "b"}}
        assert self.chosen(sms(to=[GB, US]), **parts) == frozenset({"a", "b"})
        assert self.chosen(sms(to=[US, CA]), **parts) == frozenset({"b"})
        assert self.chosen(sms(to=[GB]), **parts) == frozenset({"a"})

    def test_an_email_is_one_whole(self) -> None:
        parts: dict[str, Any] = {"rules": [{"domain": "example.org", "use": "a"}], "defaults": {"email": "b"}}
        assert self.chosen(email(to=["x@example.org", "y@example.net"]), **parts) == frozenset({"b"})
        assert self.chosen(email(to=["x@example.org", "y@example.org"]), **parts) == frozenset({"a"})

    def test_what_nothing_chooses_is_no_name(self) -> None:
        assert self.chosen(sms()) == frozenset({""})


class TestProviderField:
    def test_names_a_route_an_account_or_a_provider(self) -> None:
        router = router_of(accounts={"a": MEMORY, "b": {"provider": "console"}}, routes={"r": {"via": ["b", "a"]}})
        assert planned(router, sms(provider="r")) == ["b", "a"]
        assert planned(router, sms(provider="b")) == ["b"]
        assert planned(router, sms(provider="memory")) == ["a"]

    def test_names_a_provider_without_an_account(self) -> None:
        (target,) = targets(router_of(), sms(provider="memory"))
        assert (target.name, target.provider, target.configured) == ("memory", "memory", False)

    def test_prefers_the_account_over_the_provider_of_the_same_name(self) -> None:
        router = router_of(accounts={"memory": {"provider": "console"}})
        assert targets(router, sms(provider="memory"))[0].provider == "console"

    def test_that_names_a_provider_with_several_accounts_is_ambiguous(self) -> None:
        with pytest.raises(ProviderNotFound, match=r"'memory' has several accounts \(a, b, c\); name the account"):
            router_of(accounts=ABC).plan(sms(provider="memory"))

    def test_that_names_a_provider_with_two_accounts_lists_them_in_order(self) -> None:
        with pytest.raises(ProviderNotFound, match=r"'memory' has several accounts \(a, b\); name the account"):
            router_of(accounts={"b": MEMORY, "a": MEMORY}).plan(sms(provider="memory"))

    def test_that_names_nothing_where_there_is_nothing_says_so(self) -> None:
        with pytest.raises(ProviderNotFound, match="routes and accounts: none$") as caught:
            router_of().plan(sms(provider="nothing-like-it"))
        assert caught.value.__suppress_context__

    def test_that_names_nothing_lists_what_there_is_and_the_nearest(self) -> None:
        router = router_of(accounts={"primary": MEMORY, "backup": MEMORY}, routes={"careful": {"via": "primary"}})
        with pytest.raises(ProviderNotFound) as caught:
            router.plan(sms(provider="carefull"))
        said = str(caught.value)
        assert "no provider 'carefull'; installed: " in said
        assert "routes and accounts: backup, careful, primary; did you mean 'careful'?" in said


class TestRules:
    def test_the_first_that_matches_wins(self) -> None:
        rules = [
            {"channel": "email", "use": "a"},
            {"channel": "sms", "country": ["GB", "IE"], "use": "b"},
            {"channel": "sms", "use": "c"},
            {"country": "US", "use": "a"},
        ]
        router = router_of(accounts=ABC, rules=rules)
        assert planned(router, email()) == ["a"]
        assert planned(router, sms()) == ["b"]
        assert planned(router, sms(to=IE)) == ["b"]
        assert planned(router, sms(to=US)) == ["c"]

    def test_a_message_that_names_its_provider_obeys_no_rule(self) -> None:
        assert planned(router_of(accounts=ABC, rules=[{"use": "a"}]), sms(provider="c")) == ["c"]

    def test_are_asked_for_every_message_anew(self) -> None:
        router = router_of(accounts=ABC, rules=[{"category": "marketing", "use": "a"}], defaults={"email": "b"})
        orders = [planned(router, message) for message in (email(), email(category="marketing"), email())]
        assert orders == [["b"], ["a"], ["b"]]

    def test_do_not_split_an_sms_that_goes_one_way(self) -> None:
        router = router_of(accounts=ABC, rules=[{"country": ["GB", "IE"], "use": "a"}], defaults={"sms": "b"})
        message = sms(to=[GB, IE])
        assert [way.message for way in router.plan(message)] == [message]
        assert [way.message.recipients for way in router.plan(sms(to=[GB, US, IE]))] == [(GB, IE), (US,)]

    def test_a_country_is_of_no_email_and_a_domain_of_no_sms(self) -> None:
        rules = [{"country": "GB", "use": "a"}, {"domain": "example.org", "use": "b"}, {"use": "c"}]
        router = router_of(accounts=ABC, rules=rules)
        assert planned(router, email(to="x@example.net")) == ["c"]
        assert planned(router, email(to="x@example.org")) == ["b"]
        assert planned(router, sms(to=US)) == ["c"]

    def test_a_category_chooses(self) -> None:
        router = router_of(accounts=ABC, rules=[{"category": "marketing", "use": "a"}, {"use": "b"}])
        assert planned(router, email(category="marketing")) == ["a"]
        assert planned(router, email()) == ["b"]

    @pytest.mark.parametrize("domain", ["Example.org", "EXAMPLE.ORG", "example.org"])
    def test_a_domain_chooses_when_every_recipient_is_there_whatever_the_case(self, domain: str) -> None:
        router = router_of(accounts=ABC, rules=[{"domain": domain, "use": "a"}, {"use": "b"}])
        assert planned(router, email(to=["x@example.org", "y@EXAMPLE.org"])) == ["a"]
        assert planned(router, email(to=["x@example.org"], bcc=["y@example.net"])) == ["b"]
        assert planned(router, email(to="x@sub.example.org")) == ["b"]
        assert planned(router, sms()) == ["b"]

    def test_all_conditions_of_a_rule_must_hold(self) -> None:
        rules = [{"channel": "sms", "country": "GB", "category": "marketing", "use": "a"}, {"use": "b"}]
        router = router_of(accounts=ABC, rules=rules)
        assert planned(router, sms(category="marketing")) == ["a"]
        assert planned(router, sms()) == ["b"]
        assert planned(router, sms(category="marketing", to=US)) == ["b"]

    async def test_an_sms_to_two_countries_goes_two_ways_and_has_one_receipt(self, stage: ModuleType) -> None:
        british, american = stage.Script(), stage.Script()
        config = Config.model_validate(
            {
                "accounts": {
                    "british": stage.StageSettings(script=british),
                    "american": stage.StageSettings(script=american),
                },
                "rules": [{"country": "GB", "use": "british"}],
                "defaults": {"sms": "american"},
            }
        )
        async with Postroom(config) as room:
            receipt = await room.send(sms(to=[US, GB, CA]))
        assert british.recipients == [GB]
        assert american.recipients == [US, CA]
        assert [result.address for result in receipt.recipients] == [US, GB, CA]
        assert {message.id for message in british.messages + american.messages} == {receipt.id}

    @pytest.mark.parametrize(
        ("number", "country"),
        [
            (GB, "GB"),
            (US, "US"),
            (CA, "CA"),
            (IE, "IE"),
            ("+15005550006", "US"),
            ("+447400123456", "GB"),
            ("+441111111111", "GB"),  # of no area: the country code says whose it is
            ("+8821612345678", "001"),
        ],
    )
    def test_a_number_belongs_to_its_country(self, number: str, country: str) -> None:
        assert country_of(number) == country


class TestDefaults:
    def test_take_what_nothing_else_chooses(self) -> None:
        router = router_of(
            accounts=ABC, defaults={"email": "a", "sms": "b"}, rules=[{"category": "marketing", "use": "c"}]
        )
        assert planned(router, email()) == ["a"]
        assert planned(router, sms()) == ["b"]
        assert planned(router, sms(category="marketing")) == ["c"]

    def test_may_name_a_provider(self) -> None:
        assert planned(router_of(defaults={"sms": "console"}), sms()) == ["console"]

    def test_are_not_needed_with_one_account(self) -> None:
        assert planned(router_of(accounts={"a": MEMORY}), sms()) == ["a"]

    def test_are_not_needed_with_one_account_of_the_channel(self) -> None:
        accounts = {"a": MEMORY, "gone": {"provider": "not-installed"}}
        assert planned(router_of(accounts=accounts), sms()) == ["a"]

    def test_missing_beside_an_account_that_cannot_be_used_say_why_it_cannot(self) -> None:
        with pytest.raises(ProviderNotFound, match="no provider 'not-installed'"):
            router_of(accounts={"a": {"provider": "not-installed"}}).plan(sms())

    def test_are_needed_with_several(self) -> None:
        with pytest.raises(
            ProviderNotFound, match=r"several accounts carry sms \(a, b, c\): choose one as \[defaults\] sms"
        ):
            router_of(accounts=ABC).plan(sms())

    def test_missing_say_how_to_make_a_first_account(self) -> None:
        with pytest.raises(
            ProviderNotFound,
            match=r"no account for email: .*postroom init.*POSTROOM_EMAIL_URL.*console, .*file, memory",
        ):
            router_of().plan(email())


class TestStrategies:
    def route(self, strategy: str, rng: random.Random | None = None, **more: Any) -> Router:
        route = {"strategy": strategy, "via": list("abc"), **more}
        return router_of(rng, accounts=ABC, routes={"r": route})

    def test_failover_keeps_its_order(self) -> None:
        router = self.route("failover")
        assert [planned(router, sms(provider="r")) for _ in range(5)] == [list("abc")] * 5

    def test_round_robin_begins_with_the_next_each_time(self) -> None:
        router = self.route("round_robin")
        orders = ["".join(planned(router, sms(provider="r"))) for _ in range(7)]
        assert orders == ["abc", "bca", "cab", "abc", "bca", "cab", "abc"]

    def test_two_round_robin_routes_turn_on_their_own(self) -> None:
        routes = {name: {"strategy": "round_robin", "via": list("ab")} for name in ("r", "s")}
        router = router_of(accounts=ABC, routes=routes)
        firsts = [planned(router, sms(provider=name))[0] for name in "rsrs"]
        assert firsts == ["a", "a", "b", "b"]

    def test_a_default_that_is_round_robin_goes_on_with_every_message(self) -> None:
        routes = {"r": {"strategy": "round_robin", "via": list("ab")}}
        router = router_of(accounts=ABC, routes=routes, defaults={"sms": "r"})
        assert [planned(router, sms())[0] for _ in range(4)] == list("abab")

    def test_a_plan_that_cannot_change_is_made_once(self) -> None:
        router = self.route("failover")
        assert targets(router, sms(provider="r")) == targets(router, sms(provider="r"))
        [first], [second] = router.plan(sms("1", provider="r")), router.plan(sms("2", provider="r"))
        assert first.targets is second.targets
        assert [first.message, second.message] == [sms("1", provider="r"), sms("2", provider="r")]
        assert (first.name, second.name) == ("r", "r")

    def test_a_route_of_both_channels_is_planned_for_each(self) -> None:
        router = router_of(accounts=ABC, defaults={"sms": "a", "email": "b"})
        orders = [planned(router, message) for message in (sms(), email(), sms(), email())]
        assert orders == [["a"], ["b"], ["a"], ["b"]]

    @pytest.mark.parametrize("strategy", ["failover", "round_robin"])
    def test_what_is_peeked_at_is_planned_next(self, strategy: str) -> None:
        router = self.route(strategy)
        for _ in range(4):
            seen = [router.peek(sms(provider="r")) for _ in range(3)]
            assert seen == [router.plan(sms(provider="r"))] * 3

    def test_weighted_draws_from_the_chance_it_is_given_or_from_its_own(self) -> None:
        one, other = (self.route("weighted", random.Random(7)) for _ in range(2))
        own = self.route("weighted")
        draws = [[planned(router, sms(provider="r")) for _ in range(30)] for router in (one, other, own)]
        assert draws[0] == draws[1]
        assert all(sorted(order) == list("abc") for order in draws[2])

    @pytest.mark.parametrize("weights", [{}, {"a": 5, "b": 3, "c": 2}, {"a": 0.7, "b": 0.2, "c": 0.1}, {"b": 8}])
    def test_weighted_draws_the_first_by_weight(self, weights: dict[str, float]) -> None:
        draws = 10_000
        router = self.route("weighted", random.Random(2026), weights=weights)
        firsts = Counter(planned(router, sms(provider="r"))[0] for _ in range(draws))
        full = {name: weights.get(name, 1) for name in "abc"}
        for name, weight in full.items():
            share = weight / sum(full.values())
            assert abs(firsts[name] - draws * share) <= 3 * math.sqrt(draws * share * (1 - share))

    @given(
        strategy=st.sampled_from(["failover", "round_robin", "weighted"]),
        via=st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True),
        seed=st.integers(),
        turns=st.integers(1, 10),
        data=st.data(),
    )
    @settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    def test_every_account_of_a_route_comes_exactly_once(
        self, strategy: str, via: list[str], seed: int, turns: int, data: st.DataObject
    ) -> None:
        route: dict[str, Any] = {"strategy": strategy, "via": via}
        if strategy == "weighted":
            weight = st.floats(1e-3, 1e6, allow_nan=False)
            route["weights"] = data.draw(st.dictionaries(st.sampled_from(via), weight))
        accounts = dict.fromkeys("abcdefgh", MEMORY)
        router = router_of(random.Random(seed), accounts=accounts, routes={"r": route})
        for _ in range(turns):
            order = planned(router, sms(provider="r"))
            assert sorted(order) == sorted(via)
            if strategy == "failover":
                assert order == via

    async def test_round_robin_shares_the_messages_of_a_bulk_evenly(self, stage: ModuleType) -> None:
        scripts = {name: stage.Script() for name in "abc"}
        accounts = {name: stage.StageSettings(script=script) for name, script in scripts.items()}
        routes = {"r": {"strategy": "round_robin", "via": list("abc")}}
        async with Postroom(accounts=accounts, routes=routes, defaults={"sms": "r"}) as room:
            await room.send_many([sms()] * 99)
        assert {name: len(script.calls) for name, script in scripts.items()} == {"a": 33, "b": 33, "c": 33}


class TestNames:
    def test_an_account_goes_before_a_provider_used_on_its_own(self) -> None:
        router = router_of(accounts={"memory": {"provider": "console"}})
        assert router.account("memory") == Target("memory", "console")
        assert router.account("console") == Target("console", "console", configured=False)

    def test_what_is_neither_lists_the_accounts_and_the_nearest(self) -> None:
        with pytest.raises(ProviderNotFound, match=r"no account 'primry'; accounts: primary, second; did you mean"):
            router_of(accounts={"second": MEMORY, "primary": MEMORY}).account("primry")
        with pytest.raises(ProviderNotFound, match=r"no account 'x'; accounts: none$"):
            router_of().account("x")

    def test_a_name_is_used_for_each_channel_it_carries(self) -> None:
        router = router_of(accounts={"a": MEMORY})
        assert router.uses("a") == [(Target("a", "memory"), channel) for channel in Channel]
        unconfigured = Target("console", "console", configured=False)
        assert router.uses("console") == [(unconfigured, channel) for channel in Channel]
        assert list(router.accounts) == ["a"]

    def test_names_in_use_are_those_of_defaults_and_rules_by_channel(self) -> None:
        rules = [
            {"channel": "sms", "use": "a"},
            {"country": "GB", "use": "b"},
            {"domain": "example.org", "use": "c"},
            {"category": "marketing", "use": "a"},
        ]
        router = router_of(accounts=ABC, defaults={"email": "a"}, rules=rules)
        assert router.names_in_use() == [
            ("a", Channel.EMAIL),
            ("a", Channel.SMS),
            ("b", Channel.SMS),
            ("c", Channel.EMAIL),
        ]
